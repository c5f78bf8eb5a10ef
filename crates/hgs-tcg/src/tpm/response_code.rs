//! Response codes (TPM_RC; part 2, 6.6) in plain words.

use std::fmt;

/// Why a TPM refused a command. It has no HMAC: a host can make it up, so nothing but a refusal may follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponseCode(u32);

impl ResponseCode {
    /// As it stands in a response.
    #[must_use]
    pub fn new(code: u32) -> Self {
        Self(code)
    }

    /// As it stands in a response.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0
    }

    /// Whether the TPM has not begun and wants the same octets again.
    #[must_use]
    pub fn is_transient(self) -> bool {
        // TPM_RC_YIELDED, TPM_RC_CANCELED, TPM_RC_TESTING, TPM_RC_NV_RATE, TPM_RC_RETRY, TPM_RC_NV_UNAVAILABLE
        matches!(self.0, 0x908 | 0x909 | 0x90a | 0x920 | 0x922 | 0x923)
    }

    /// Whether a slot is missing that the host can free with [`flush_context`](super::flush_context).
    #[must_use]
    pub fn is_out_of_slots(self) -> bool {
        matches!(self.0, 0x902..=0x906)
    }

    /// Whether NV memory is full (TPM_RC_NV_SPACE).
    #[must_use]
    pub fn is_out_of_nv(self) -> bool {
        self.0 == 0x14b
    }

    /// Whether a policy is not satisfied (TPM_RC_POLICY), as when TPM2_PolicyNV compares.
    #[must_use]
    pub fn is_policy(self) -> bool {
        self.0 == 0x126
    }

    /// Whether the TPM has failed (TPM_RC_FAILURE).
    #[must_use]
    pub fn is_failure(self) -> bool {
        self.0 == 0x101
    }

    /// Whether the TPM takes no passwords for some time.
    #[must_use]
    pub fn is_lockout(self) -> bool {
        self.0 == 0x921
    }

    /// Whether the TPM does not have what a handle names.
    #[must_use]
    pub fn is_wrong_handle(self) -> bool {
        self.is_format_one() && self.0 & 0x3f == 0x0b
    }

    /// Whether an object that was to be loaded is not of this TPM and parent, or was altered.
    #[must_use]
    pub fn is_foreign_object(self) -> bool {
        // TPM_RC_INTEGRITY and TPM_RC_BINDING
        self.is_format_one() && matches!(self.0 & 0x3f, 0x1f | 0x25)
    }

    /// Whether the TPM could not decrypt the salt of TPM2_StartAuthSession: it does not have the endorsement key. TPMs differ
    /// in what they say then, and whether they say that it is about the second parameter or about the first handle.
    pub(super) fn is_undecryptable_salt(self) -> bool {
        const ATTRIBUTES: u32 = 0x02;
        const VALUE: u32 = 0x04;
        const SIZE: u32 = 0x15;
        const KEY: u32 = 0x1c;
        const BINDING: u32 = 0x25;
        const PARAMETER_2: u32 = 0x2c0;
        const HANDLE_1: u32 = 0x180;
        const NO_PLACE: u32 = 0x080;
        let place = self.0 & !0x3f;
        match self.0 & 0x3f {
            VALUE | SIZE | BINDING => matches!(place, PARAMETER_2 | NO_PLACE),
            ATTRIBUTES | KEY => matches!(place, HANDLE_1 | PARAMETER_2 | NO_PLACE),
            _ => false,
        }
    }

    /// Whether the TPM found the HMAC of a command's first session wrong.
    pub(super) fn is_wrong_hmac(self) -> bool {
        // TPM_RC_AUTH_FAIL and TPM_RC_BAD_AUTH, with and without the number of the session
        matches!(self.0, 0x98e | 0x9a2 | 0x08e | 0x0a2)
    }

    fn is_format_one(self) -> bool {
        self.0 & 0x80 != 0
    }

    fn meaning(self) -> (&'static str, &'static str) {
        if self.is_format_one() {
            return format_one(self.0 & 0x3f);
        }
        match self.0 {
            0x01e => ("TPM_RC_BAD_TAG", "this is a TPM 1.2, or no TPM command"),
            0x100 => ("TPM_RC_INITIALIZE", "the firmware has not started the TPM"),
            0x101 => (
                "TPM_RC_FAILURE",
                "the TPM has failed its self-test; only a restart can help",
            ),
            0x120 => (
                "TPM_RC_DISABLED",
                "the hierarchy is disabled in the firmware's settings",
            ),
            0x121 => (
                "TPM_RC_EXCLUSIVE",
                "another program used the TPM in between",
            ),
            0x125 => ("TPM_RC_AUTH_MISSING", "an authorization is missing"),
            0x126 => ("TPM_RC_POLICY", "the policy is not satisfied"),
            0x14b => (
                "TPM_RC_NV_SPACE",
                "no room in NV memory; remove indices that are no longer needed",
            ),
            0x128 => (
                "TPM_RC_PCR_CHANGED",
                "a PCR has changed since the policy was checked",
            ),
            0x12d => (
                "TPM_RC_UPGRADE",
                "the TPM waits for the end of a firmware update",
            ),
            0x12e => (
                "TPM_RC_TOO_MANY_CONTEXTS",
                "too many saved sessions; restart the host",
            ),
            0x130 => ("TPM_RC_REBOOT", "the TPM wants the host to be restarted"),
            0x142 => ("TPM_RC_COMMAND_SIZE", "the command has a wrong size"),
            0x143 => ("TPM_RC_COMMAND_CODE", "the TPM does not have this command"),
            0x144 => ("TPM_RC_AUTHSIZE", "the authorization area has a wrong size"),
            0x153 => ("TPM_RC_NEEDS_TEST", "the TPM wants a self-test first"),
            0x901 => (
                "TPM_RC_CONTEXT_GAP",
                "too old a saved session; flush the sessions that are left over",
            ),
            0x902 => (
                "TPM_RC_OBJECT_MEMORY",
                "no slot for another key; flush the keys that are left over",
            ),
            0x903 => (
                "TPM_RC_SESSION_MEMORY",
                "no slot for another session; flush the sessions that are left over",
            ),
            0x904 => (
                "TPM_RC_MEMORY",
                "out of memory; flush the keys and sessions that are left over",
            ),
            0x905 => (
                "TPM_RC_SESSION_HANDLES",
                "no handle for another session; flush the sessions that are left over",
            ),
            0x906 => (
                "TPM_RC_OBJECT_HANDLES",
                "no handle for another key; flush the keys that are left over",
            ),
            0x907 => ("TPM_RC_LOCALITY", "not possible from the operating system"),
            0x908 => (
                "TPM_RC_YIELDED",
                "the TPM was interrupted; send the command again",
            ),
            0x909 => (
                "TPM_RC_CANCELED",
                "the command was cancelled; send it again",
            ),
            0x90a => (
                "TPM_RC_TESTING",
                "the TPM is testing itself; send the command again",
            ),
            0x910..=0x916 => (
                "TPM_RC_REFERENCE_H",
                "a key that the command uses is not in the TPM any more",
            ),
            0x918..=0x91e => (
                "TPM_RC_REFERENCE_S",
                "a session that the command uses is not in the TPM any more",
            ),
            0x920 => (
                "TPM_RC_NV_RATE",
                "the TPM protects its memory against wear; send the command again",
            ),
            0x921 => (
                "TPM_RC_LOCKOUT",
                "the TPM is locked after too many wrong passwords; wait, or clear the lockout with tpm2_dictionarylockout",
            ),
            0x922 => ("TPM_RC_RETRY", "the TPM is busy; send the command again"),
            0x923 => (
                "TPM_RC_NV_UNAVAILABLE",
                "the TPM's memory is not ready; send the command again",
            ),
            _ => ("an unknown code", "see part 2 of the TPM 2.0 Library, 6.6"),
        }
    }
}

fn format_one(code: u32) -> (&'static str, &'static str) {
    match code {
        0x01 => (
            "TPM_RC_ASYMMETRIC",
            "an asymmetric algorithm that the TPM does not have",
        ),
        0x02 => ("TPM_RC_ATTRIBUTES", "attributes that do not fit together"),
        0x03 => ("TPM_RC_HASH", "a hash that the TPM does not have"),
        0x04 => (
            "TPM_RC_VALUE",
            "a value that is out of range or that can't be decrypted",
        ),
        0x05 => ("TPM_RC_HIERARCHY", "the hierarchy is disabled or wrong"),
        0x07 => (
            "TPM_RC_KEY_SIZE",
            "a size of keys that the TPM does not have",
        ),
        0x09 => ("TPM_RC_MODE", "a mode that the TPM does not have"),
        0x0a => ("TPM_RC_TYPE", "an object of the wrong type"),
        0x0b => ("TPM_RC_HANDLE", "a handle that is not in the TPM"),
        0x0d => ("TPM_RC_RANGE", "a value out of range"),
        0x0e => (
            "TPM_RC_AUTH_FAIL",
            "a wrong HMAC or password, which the TPM counts",
        ),
        0x0f => ("TPM_RC_NONCE", "a nonce of the wrong size"),
        0x12 => ("TPM_RC_SCHEME", "a scheme that the TPM does not have"),
        0x15 => ("TPM_RC_SIZE", "a structure of the wrong size"),
        0x16 => (
            "TPM_RC_SYMMETRIC",
            "a symmetric algorithm that the TPM does not have",
        ),
        0x17 => ("TPM_RC_TAG", "a wrong tag"),
        0x1a => ("TPM_RC_INSUFFICIENT", "the command ends early"),
        0x1b => ("TPM_RC_SIGNATURE", "a wrong signature"),
        0x1c => ("TPM_RC_KEY", "a key for another use"),
        0x1d => (
            "TPM_RC_POLICY_FAIL",
            "the policy of the key is not satisfied; have PCRs changed?",
        ),
        0x1f => (
            "TPM_RC_INTEGRITY",
            "the object is not of this TPM, or was altered",
        ),
        0x20 => ("TPM_RC_TICKET", "a wrong ticket"),
        0x21 => ("TPM_RC_RESERVED_BITS", "reserved bits that are set"),
        0x22 => ("TPM_RC_BAD_AUTH", "a wrong HMAC or password"),
        0x23 => ("TPM_RC_EXPIRED", "the policy has expired"),
        0x24 => ("TPM_RC_POLICY_CC", "the policy is for another command"),
        0x25 => (
            "TPM_RC_BINDING",
            "the public and the private part do not belong together",
        ),
        _ => ("an unknown code", "see part 2 of the TPM 2.0 Library, 6.6"),
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, meaning) = self.meaning();
        write!(formatter, "{name} ({:#05x}", self.0)?;
        if self.is_format_one() {
            // Part 2, 6.6.2: bit 6 says that the number is of a parameter, bit 11 that it is of a session.
            let place = (self.0 >> 8) & 0xf;
            match (self.0 & 0x40 != 0, place) {
                (_, 0) => {}
                (true, place) => write!(formatter, ", parameter {place}")?,
                (false, 1..=7) => write!(formatter, ", handle {place}")?,
                (false, place) => write!(formatter, ", session {}", place - 8)?,
            }
        }
        write!(formatter, "): {meaning}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_plain_words() {
        let shown = |code| ResponseCode::new(code).to_string();
        assert_eq!(
            shown(0x922),
            "TPM_RC_RETRY (0x922): the TPM is busy; send the command again"
        );
        assert_eq!(
            shown(0x9a2),
            "TPM_RC_BAD_AUTH (0x9a2, session 1): a wrong HMAC or password"
        );
        assert_eq!(
            shown(0x2c4),
            "TPM_RC_VALUE (0x2c4, parameter 2): a value that is out of range or that can't be decrypted"
        );
        assert_eq!(
            shown(0x18b),
            "TPM_RC_HANDLE (0x18b, handle 1): a handle that is not in the TPM"
        );
        assert!(shown(0x903).contains("flush the sessions"));
        assert!(shown(0x921).contains("locked after too many wrong passwords"));
        assert!(shown(u32::MAX).contains("0xffffffff"));
        assert!(ResponseCode::new(0x922).is_transient());
        assert!(ResponseCode::new(0x903).is_out_of_slots());
        assert!(!ResponseCode::new(0x921).is_transient());
        assert!(ResponseCode::new(0x921).is_lockout());
        assert!(ResponseCode::new(0x18b).is_wrong_handle());
        assert!(ResponseCode::new(0x1df).is_foreign_object());
        assert!(!ResponseCode::new(0x902).is_foreign_object());
    }

    #[test]
    fn a_tpm_without_the_endorsement_key_is_known_by_any_code_it_may_answer_with() {
        for code in [
            0x2c4, 0x2d5, 0x084, 0x095, 0x19c, 0x182, 0x09c, 0x2e5, 0x2dc,
        ] {
            assert!(ResponseCode::new(code).is_undecryptable_salt(), "{code:#x}");
        }
        // No such handle, no slot, another parameter, a busy TPM.
        for code in [0x18b, 0x903, 0x1c4, 0x922, 0x2cb, 0] {
            assert!(
                !ResponseCode::new(code).is_undecryptable_salt(),
                "{code:#x}"
            );
        }
    }
}
