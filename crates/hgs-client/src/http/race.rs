//! Which of a host's addresses to use: they race, with a head start for the better ones (RFC 8305).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time;

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// No address accepted a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// Each address that was tried, and what happened.
    pub attempts: Vec<(SocketAddr, String)>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no address accepts a connection: ")?;
        for (index, (address, reason)) in self.attempts.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{address}: {reason}")?;
        }
        Ok(())
    }
}

/// The order in which distinct addresses start: the one that answered last time, then the
/// resolver's with the two families in turns.
pub(super) fn order(resolved: Vec<SocketAddr>, healthy: Option<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = resolved.first().is_some_and(SocketAddr::is_ipv6);
    let healthy = healthy.filter(|address| resolved.contains(address));
    let (same, other): (Vec<_>, Vec<_>) = resolved
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut ordered: Vec<SocketAddr> = healthy.into_iter().collect();
    loop {
        let pair = [same.next(), other.next()];
        if pair == [None, None] {
            ordered.truncate(MAX_ADDRESSES);
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
}

/// Connects to the addresses in order, the next one when the last has failed or had its head
/// start, until one is connected or `limit` is over. The winner and those that failed are taken out
/// of `addresses`; those that were still trying stay.
pub(super) async fn first<C, F, T>(
    addresses: &mut Vec<SocketAddr>,
    stagger: Duration,
    limit: Duration,
    connect: C,
) -> Result<(SocketAddr, T), Unreachable>
where
    C: Fn(SocketAddr) -> F,
    F: Future<Output = io::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut waiting = addresses.clone().into_iter();
    // Dropping the set ends the attempts that lost.
    let mut running = JoinSet::new();
    let mut attempts = Vec::new();
    let deadline = time::Instant::now() + limit;
    let mut start = |running: &mut JoinSet<_>| {
        if let Some(address) = waiting.next() {
            let attempt = connect(address);
            running.spawn(async move { (address, attempt.await) });
        }
    };
    start(&mut running);
    while !running.is_empty() {
        tokio::select! {
            biased;
            Some(Ok((address, outcome))) = running.join_next() => {
                addresses.retain(|other| *other != address);
                match outcome {
                    Ok(connection) => return Ok((address, connection)),
                    Err(error) => attempts.push((address, error.to_string())),
                }
                start(&mut running);
            }
            () = time::sleep_until(deadline) => break,
            () = time::sleep(stagger) => start(&mut running),
        }
    }
    let silent = addresses.drain(..);
    let reason = format!("no answer within {} s", limit.as_secs());
    attempts.extend(silent.map(|address| (address, reason.clone())));
    Err(Unreachable { attempts })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    fn address_v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 80))
    }

    #[test]
    fn families_take_turns_and_addresses_are_distinct() {
        let resolved = vec![
            address_v6(1),
            address_v6(2),
            address_v6(1),
            address(1),
            address(2),
            address(3),
        ];
        let expected = [
            address_v6(1),
            address(1),
            address_v6(2),
            address(2),
            address(3),
        ];
        assert_eq!(order(resolved, None), expected);
    }

    #[test]
    fn the_healthy_address_starts_first_while_the_name_still_has_it() {
        let resolved = vec![address(1), address(2)];
        assert_eq!(
            order(resolved.clone(), Some(address(2))),
            [address(2), address(1)]
        );
        assert_eq!(order(resolved, Some(address(9))), [address(1), address(2)]);
    }

    #[test]
    fn a_name_with_many_addresses_is_cut_short() {
        let resolved: Vec<_> = (0..=255).map(address).collect();
        assert_eq!(order(resolved, None).len(), MAX_ADDRESSES);
    }

    const STAGGER: Duration = Duration::from_millis(250);
    const LIMIT: Duration = Duration::from_secs(10);

    /// Time in these tests is tokio's paused clock, which moves when nothing else can.
    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_one_head_start() {
        let begin = time::Instant::now();
        let mut addresses = vec![address(1), address(2), address(3)];
        let connect = |to| async move {
            if to == address(1) {
                pending().await
            } else {
                Ok(to)
            }
        };
        let (winner, _) = first(&mut addresses, STAGGER, LIMIT, connect)
            .await
            .unwrap();
        assert_eq!(winner, address(2));
        assert_eq!(begin.elapsed(), STAGGER);
        // The silent one may be slow only, and is still there should the winner fail later.
        assert_eq!(addresses, [address(1), address(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_costs_nothing() {
        let begin = time::Instant::now();
        let mut addresses = vec![address(1), address(2)];
        let connect = |to| async move {
            if to == address(1) {
                Err(io::Error::from(io::ErrorKind::ConnectionRefused))
            } else {
                Ok(())
            }
        };
        let (winner, ()) = first(&mut addresses, STAGGER, LIMIT, connect)
            .await
            .unwrap();
        assert_eq!(winner, address(2));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(addresses.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_still_wins_over_one_that_is_slower() {
        let mut addresses = vec![address(1), address(2)];
        let connect = |to| async move {
            let delay = if to == address(1) { 400 } else { 1000 };
            time::sleep(Duration::from_millis(delay)).await;
            Ok(())
        };
        let (winner, ()) = first(&mut addresses, STAGGER, LIMIT, connect)
            .await
            .unwrap();
        assert_eq!(winner, address(1));
    }

    #[tokio::test(start_paused = true)]
    async fn every_address_is_named_when_none_answers() {
        let begin = time::Instant::now();
        let mut addresses = vec![address(1), address(2)];
        let connect = |to| async move {
            if to == address(1) {
                pending::<()>().await;
            }
            Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused))
        };
        let error = first(&mut addresses, STAGGER, LIMIT, connect)
            .await
            .unwrap_err();
        let tried: Vec<_> = error.attempts.iter().map(|(to, _)| *to).collect();
        assert_eq!(tried, [address(2), address(1)]);
        assert_eq!(begin.elapsed(), LIMIT);
    }
}
