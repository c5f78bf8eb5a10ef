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
    if let Some(factor) = small_primes().find(|prime| remainder(modulus, *prime) == 0) {
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
    (1..=FERMAT_ROUNDS).any(|round| {
        let a = &root + round;
        is_square(&(&a * &a - modulus))
    })
}

fn is_square(number: &BigUint) -> bool {
    // Squares modulo 256 take 44 of 256 values: most candidates need no root.
    let low = number.iter_u32_digits().next().unwrap_or(0) % 256;
    if !(0..=128u32).any(|n| n * n % 256 == low) {
        return false;
    }
    let root = number.sqrt();
    &root * &root == *number
}

fn remainder(modulus: &[u8], divisor: u32) -> u32 {
    modulus
        .iter()
        .fold(0, |rest, octet| (rest << 8 | u32::from(*octet)) % divisor)
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
    fn remainders_agree_with_the_library() {
        let n = number("123456789012345678901234567890123456789");
        for prime in small_primes() {
            let expected = (&n % prime).to_string();
            assert_eq!(remainder(&n.to_bytes_be(), prime).to_string(), expected);
        }
    }
}
