//! Moduli that others have factored (attacks.md A17).

use num_bigint::BigUint;

/// How the modulus can be factored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// A prime up to 751 divides it.
    #[error("the modulus has the small factor {0}")]
    SmallFactor(u32),
    /// It has the structure of keys from Infineon's RSALib (CVE-2017-15361).
    #[error("the modulus has the fingerprint of ROCA, CVE-2017-15361")]
    Roca,
    /// Its primes are so close together that Fermat's method finds them.
    #[error("the primes of the modulus are too close together")]
    ClosePrimes,
}

/// Refuses a modulus (big-endian) that is known to be weak.
pub(super) fn check(modulus: &[u8]) -> Result<(), Weakness> {
    if let Some(factor) = small_factor(modulus) {
        return Err(Weakness::SmallFactor(factor));
    }
    if has_roca_fingerprint(modulus) {
        return Err(Weakness::Roca);
    }
    if fermat_succeeds(&BigUint::from_bytes_be(modulus)) {
        return Err(Weakness::ClosePrimes);
    }
    Ok(())
}

/// The smallest of [`small_primes`] that divides the modulus. One pass over it serves as many primes as have a product of
/// 32 bits.
fn small_factor(modulus: &[u8]) -> Option<u32> {
    let mut group = Vec::new();
    let mut product = 1_u32;
    for prime in small_primes().map(Some).chain([None]) {
        match prime.and_then(|prime| Some((prime, product.checked_mul(prime)?))) {
            Some((prime, longer)) => {
                product = longer;
                group.push(prime);
            }
            None => {
                let rest = remainder(modulus, product);
                if let Some(factor) = group.iter().find(|prime| rest.is_multiple_of(**prime)) {
                    return Some(*factor);
                }
                group = Vec::from_iter(prime);
                product = prime.unwrap_or(1);
            }
        }
    }
    None
}

/// Primes used in the trial division. They reach 751, like the check that public certificate
/// authorities run; larger factors don't occur by accident in keys from real generators.
fn small_primes() -> impl Iterator<Item = u32> {
    (3..=751).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0))
}

/// Primes for which RSALib's keys are powers of 65537: their primes are `k * M + 65537^a mod M`
/// with `M` the product of the first primes, so the modulus lies in the subgroup that 65537
/// generates modulo each. A sound modulus does so for all of them with probability below 2^-27.
const ROCA_PRIMES: [u32; 17] = [
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];

fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    ROCA_PRIMES
        .iter()
        .all(|prime| is_power_of_65537(remainder(modulus, *prime), *prime))
}

fn is_power_of_65537(residue: u32, prime: u32) -> bool {
    let generator = 65537 % prime;
    let mut power = 1;
    loop {
        if power == residue {
            return true;
        }
        power = power * generator % prime;
        if power == 1 {
            return false;
        }
    }
}

/// Rounds of Fermat's method. Keys that were generated wrongly (CVE-2022-26320) fall in the first.
const FERMAT_ROUNDS: u32 = 100;

/// Looks for `a` with `a^2 - n` a square: then `n = (a + b)(a - b)`.
fn fermat_succeeds(modulus: &BigUint) -> bool {
    let root = modulus.sqrt();
    if &root * &root == *modulus {
        return true;
    }
    // From a^2 - n to (a + 1)^2 - n it is 2a + 1, which spares a multiplication a round.
    let mut a = root + 1_u32;
    let mut difference = &a * &a - modulus;
    #[expect(
        clippy::explicit_counter_loop,
        reason = "`a` is a big number that is added to in place"
    )]
    for _ in 1..FERMAT_ROUNDS {
        if is_square(&difference) {
            return true;
        }
        difference += &a * 2_u32 + 1_u32;
        a += 1_u32;
    }
    is_square(&difference)
}

fn is_square(number: &BigUint) -> bool {
    // Few numbers are squares modulo all of these: one candidate in about 700 needs a root.
    let low = number.iter_u32_digits().next().unwrap_or(0);
    if !is_square_modulo(low % 256, 256) {
        return false;
    }
    const ODD: [u32; 5] = [63, 65, 11, 17, 19];
    let rest = number % ODD.iter().product::<u32>();
    let rest = rest.iter_u32_digits().next().unwrap_or(0);
    if !ODD
        .iter()
        .all(|modulus| is_square_modulo(rest % modulus, *modulus))
    {
        return false;
    }
    let root = number.sqrt();
    &root * &root == *number
}

fn is_square_modulo(residue: u32, modulus: u32) -> bool {
    (0..=modulus / 2).any(|n| n * n % modulus == residue)
}

/// The remainder of a big-endian number, four octets at a time.
fn remainder(modulus: &[u8], divisor: u32) -> u32 {
    let divisor = u64::from(divisor);
    let (first, words) = modulus.as_rchunks::<4>();
    let first = first.iter().fold(0_u64, |rest, octet| {
        (rest << 8 | u64::from(*octet)) % divisor
    });
    let rest = words.iter().fold(first, |rest, word| {
        (rest << 32 | u64::from(u32::from_be_bytes(*word))) % divisor
    });
    u32::try_from(rest).expect("a remainder is less than its divisor")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> BigUint {
        text.parse().unwrap()
    }

    #[test]
    fn a17_small_factors_are_refused() {
        let modulus = (BigUint::from(1u32) << 2047u32) * 3u32 + 3u32;
        assert_eq!(check(&modulus.to_bytes_be()), Err(Weakness::SmallFactor(3)));
    }

    #[test]
    fn a17_close_primes_are_refused() {
        // 2^1023 + 1155 and the like are prime candidates; Fermat does not care whether they are.
        let p = (BigUint::from(1u32) << 1023u32) + 1_000_003u32;
        let q = &p + 1_000_000u32;
        assert!(fermat_succeeds(&(&p * &q)));
        let far = (BigUint::from(1u32) << 1024u32) - 105u32;
        assert!(!fermat_succeeds(&(&p * &far)));
    }

    #[test]
    fn a17_roca_fingerprint_is_refused() {
        // Any power of 65537 is in the subgroup modulo every prime, as RSALib's moduli are.
        let modulus = BigUint::from(65537u32).pow(126);
        assert!(has_roca_fingerprint(&modulus.to_bytes_be()));
        assert!(!has_roca_fingerprint(&(modulus + 2u32).to_bytes_be()));
    }

    #[test]
    fn every_small_factor_is_found_and_the_smallest_is_named() {
        // 2^2203 - 1 is prime.
        let prime = (BigUint::from(1u32) << 2203u32) - 1u32;
        assert_eq!(small_factor(&prime.to_bytes_be()), None);
        for factor in small_primes() {
            let product = &prime * factor;
            assert_eq!(small_factor(&product.to_bytes_be()), Some(factor));
            let product = product * 751u32;
            assert_eq!(small_factor(&product.to_bytes_be()), Some(factor));
        }
    }

    #[test]
    fn fermat_finds_primes_up_to_its_last_round_and_not_beyond() {
        // n = a^2 - b^2 with a = root + round: round is ((a - b) ^ (1/2) - ...)^2 / 2, so b is chosen by it.
        let a = BigUint::from(1u32) << 1100u32;
        let last = |b: &BigUint| {
            let n = &a * &a - b * b;
            let root = n.sqrt();
            (u32::try_from(&a - root).unwrap(), fermat_succeeds(&n))
        };
        let mut seen = (false, false);
        for shift in 540..560u32 {
            for extra in 0..8u32 {
                let b = (BigUint::from(8 + extra) << shift) + 1u32;
                let (round, found) = last(&b);
                assert_eq!(found, round <= FERMAT_ROUNDS, "{round}");
                seen.0 |= found;
                seen.1 |= !found;
            }
        }
        assert_eq!(seen, (true, true));
    }

    #[test]
    fn squares_are_told_from_others() {
        for n in 1..2000u32 {
            let square = BigUint::from(n) * n;
            assert!(is_square(&square), "{n}");
            assert!(!is_square(&(square + 1u32)), "{n}");
        }
    }

    #[test]
    fn remainders_agree_with_the_library() {
        let n = number("123456789012345678901234567890123456789");
        for prime in small_primes() {
            let expected = (&n % prime).to_string();
            assert_eq!(remainder(&n.to_bytes_be(), prime).to_string(), expected);
        }
    }
}
