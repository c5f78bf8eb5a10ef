//! The order in which work is done: the claimant with the least processor time comes first.
//!
//! Every claimant has an account of the processor time that its work took. So one that asks for much, or for what costs
//! much, waits for itself, and others wait for what is at work when they come. Time that a claimant did not use is not
//! saved up: an account that comes back from idleness begins where those stand that were served meanwhile.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hgs_pki::health::HostId;

use crate::http::Network;

/// On whose account work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Claimant {
    /// A host with a verified health certificate.
    Host(HostId),
    /// Where a request comes from, as long as its host is not known.
    Network(Network),
}

/// What is charged when work begins, until it is known what it took: about a roll.
const ADVANCE: Duration = Duration::from_millis(1);

/// Accounts that are kept; above it those without work are closed, whatever they were charged with.
const MOST_ACCOUNTS: usize = 1024;

/// Work that waits, by claimant.
#[derive(Debug)]
pub(super) struct FairQueue<W> {
    accounts: HashMap<Claimant, Account<W>>,
    /// The account that work was last taken from stood here.
    level: Duration,
    arrivals: u64,
    /// What waits and what is at work.
    unfinished: usize,
    most_of_host: usize,
}

#[derive(Debug)]
struct Account<W> {
    used: Duration,
    at_work: usize,
    waiting: VecDeque<(u64, W)>,
}

impl<W> Account<W> {
    fn has_work(&self) -> bool {
        self.at_work > 0 || !self.waiting.is_empty()
    }
}

impl<W> FairQueue<W> {
    /// Of one host at most `most_of_host` wait. What waits for networks is bounded where requests are let in.
    pub(super) fn new(most_of_host: usize) -> Self {
        Self {
            accounts: HashMap::new(),
            level: Duration::ZERO,
            arrivals: 0,
            unfinished: 0,
            most_of_host,
        }
    }

    /// Gives `work` back if its host has as much waiting as it may.
    pub(super) fn push(&mut self, claimant: Claimant, work: W) -> Result<(), W> {
        let level = self.level;
        if self.accounts.len() >= MOST_ACCOUNTS && !self.accounts.contains_key(&claimant) {
            self.accounts.retain(|_, account| account.has_work());
        }
        let account = self.accounts.entry(claimant).or_insert_with(|| Account {
            used: level,
            at_work: 0,
            waiting: VecDeque::new(),
        });
        if matches!(claimant, Claimant::Host(_)) && account.waiting.len() >= self.most_of_host {
            return Err(work);
        }
        if !account.has_work() {
            account.used = account.used.max(level);
        }
        self.arrivals += 1;
        self.unfinished += 1;
        account.waiting.push_back((self.arrivals, work));
        Ok(())
    }

    /// The work that is to be done next.
    pub(super) fn pop(&mut self) -> Option<(Claimant, W)> {
        let waiting = self.accounts.iter_mut().filter_map(|(claimant, account)| {
            let (arrival, _) = account.waiting.front()?;
            Some((account.used, *arrival, *claimant, account))
        });
        let (used, _, claimant, account) =
            waiting.min_by_key(|(used, arrival, ..)| (*used, *arrival))?;
        let (_, work) = account.waiting.pop_front()?;
        account.used += ADVANCE;
        account.at_work += 1;
        self.level = self.level.max(used);
        Some((claimant, work))
    }

    pub(super) fn is_empty(&self) -> bool {
        let mut accounts = self.accounts.values();
        accounts.all(|account| account.waiting.is_empty())
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        let accounts = self.accounts.values();
        accounts.map(|account| account.waiting.len()).sum()
    }

    /// Work that was popped is done and took so much of a processor.
    pub(super) fn charge(&mut self, claimant: Claimant, cost: Duration) {
        self.unfinished -= 1;
        if self.unfinished == 0 {
            // No claimant is owed anything by another.
            self.accounts.clear();
            self.level = Duration::ZERO;
        } else if let Some(account) = self.accounts.get_mut(&claimant) {
            account.at_work -= 1;
            account.used = (account.used + cost).saturating_sub(ADVANCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: Claimant = host(1);
    const HONEST: Claimant = host(2);

    const fn host(octet: u8) -> Claimant {
        Claimant::Host(HostId::from_bytes([octet; 16]))
    }

    fn queue(waiting: &[(Claimant, usize)]) -> FairQueue<()> {
        let mut queue = FairQueue::new(1000);
        for (claimant, count) in waiting {
            (0..*count).for_each(|_| queue.push(*claimant, ()).unwrap());
        }
        queue
    }

    /// Does so much work, each piece of a claimant at the same cost; whose it was.
    fn serve(
        queue: &mut FairQueue<()>,
        count: usize,
        cost: impl Fn(Claimant) -> u64,
    ) -> Vec<Claimant> {
        let served = (0..count).map(|_| {
            let (claimant, ()) = queue.pop().unwrap();
            queue.charge(claimant, Duration::from_millis(cost(claimant)));
            claimant
        });
        served.collect()
    }

    #[test]
    fn a_host_with_much_to_do_does_not_delay_another() {
        let mut queue = queue(&[(HOSTILE, 400), (HONEST, 3)]);
        let served = serve(&mut queue, 7, |_| 1);
        let turns = [HOSTILE, HONEST, HOSTILE, HONEST, HOSTILE, HONEST, HOSTILE];
        assert_eq!(served, turns);
        serve(&mut queue, 396, |_| 1);
        assert!(queue.pop().is_none() && queue.accounts.is_empty());
    }

    #[test]
    fn what_costs_much_counts_for_much() {
        let mut queue = queue(&[(HOSTILE, 400), (HONEST, 400)]);
        let cost = |claimant| if claimant == HOSTILE { 20 } else { 1 };
        let served = serve(&mut queue, 210, cost);
        let honest = served.iter().filter(|claimant| **claimant == HONEST);
        assert_eq!(honest.count(), 200);
    }

    /// Two at work at once must not both be those of a host whose cost is not known yet.
    #[test]
    fn work_that_has_begun_counts_before_it_is_done() {
        let mut queue = queue(&[(HOSTILE, 400), (HONEST, 1)]);
        let at_work = [queue.pop(), queue.pop()];
        assert_eq!(at_work, [Some((HOSTILE, ())), Some((HONEST, ()))]);
    }

    #[test]
    fn idleness_is_not_saved_up() {
        let mut queue = queue(&[(HOSTILE, 1000), (HONEST, 1)]);
        serve(&mut queue, 500, |_| 1);
        (0..100).for_each(|_| queue.push(HONEST, ()).unwrap());
        let served = serve(&mut queue, 20, |_| 1);
        let honest = served.iter().filter(|claimant| **claimant == HONEST);
        assert_eq!(honest.count(), 10);
    }

    #[test]
    fn one_host_has_room_for_so_many_and_others_have_theirs() {
        let mut queue = FairQueue::new(2);
        assert_eq!(queue.push(HOSTILE, ()), Ok(()));
        assert_eq!(queue.push(HOSTILE, ()), Ok(()));
        assert_eq!(queue.push(HOSTILE, ()), Err(()));
        assert_eq!(queue.push(HONEST, ()), Ok(()));
        queue.pop().unwrap();
        assert_eq!(queue.push(HOSTILE, ()), Ok(()));
        let network = Claimant::Network("192.0.2.1".parse::<std::net::IpAddr>().unwrap().into());
        (0..9).for_each(|_| queue.push(network, ()).unwrap());
    }

    /// Another cluster may vouch for any number of hosts.
    #[test]
    fn hosts_that_have_gone_take_no_memory() {
        let mut queue = queue(&[(HONEST, 1)]);
        queue.pop().unwrap();
        for number in 0..10_000_u128 {
            let host = Claimant::Host(HostId::from_bytes(number.to_be_bytes()));
            queue.push(host, ()).unwrap();
            serve(&mut queue, 1, |_| 20);
        }
        assert!(queue.accounts.len() <= MOST_ACCOUNTS);
        queue.charge(HONEST, Duration::ZERO);
        assert!(queue.accounts.is_empty());
    }
}
