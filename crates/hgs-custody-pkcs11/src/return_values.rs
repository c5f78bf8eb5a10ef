//! The return values of PKCS#11 in words: what each says, whose fault it is, and what to do about it.

use ReturnBlame::{Module, Operator, Ourselves, Request, Token};

/// Who is at fault when a module returns a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnBlame {
    /// The person who set up the token, its PIN or its rights.
    Operator,
    /// The device.
    Token,
    /// The shared object, or how it is set up.
    Module,
    /// What was to be decrypted or verified.
    Request,
    /// This program: it asked for what can't be.
    Ourselves,
}

/// One return value.
#[derive(Debug)]
pub(crate) struct ReturnValue {
    pub(crate) name: &'static str,
    pub(crate) words: &'static str,
    pub(crate) blame: ReturnBlame,
    pub(crate) remedy: &'static str,
}

const RESTART: &str =
    "restart the server; if it stays so, report it with the module's name and version";
const OTHER_TOKEN: &str =
    "use a token, or a kind of key, that offers it; `hgs trace` shows what this one does";
const DEVICE: &str = "check the device, its connection and its own log; the service takes it up by itself when it is back";
const PIN_SOURCE: &str =
    "correct the PIN in its source; many tokens lock themselves after a few wrong ones";
const MODULE: &str = "check the configuration of the module and its own log, and that the service may write where a token of software keeps its files";
const KEY_RIGHTS: &str = "name a key that was made for this use (CKA_SIGN, CKA_DECRYPT)";

macro_rules! table {
    ($($name:literal $blame:ident $words:literal, $remedy:expr;)*) => {
        &[$(ReturnValue { name: $name, words: $words, blame: $blame, remedy: $remedy },)*]
    };
}

/// All return values of PKCS#11 3.2, but CKR_OK and those of vendors.
const RETURN_VALUES: &[ReturnValue] = table! {
    "CKR_CANCEL" Operator "the call was cancelled, at the device or by a person", "repeat it, and confirm at the device if it asks";
    "CKR_HOST_MEMORY" Ourselves "this machine has no memory left for the module", "free memory, or raise the memory limit of the service";
    "CKR_SLOT_ID_INVALID" Token "the slot does not exist any more", DEVICE;
    "CKR_GENERAL_ERROR" Module "the module failed in a way that it does not name", MODULE;
    "CKR_FUNCTION_FAILED" Token "the token could not do it, and does not say why", DEVICE;
    "CKR_ARGUMENTS_BAD" Ourselves "the module does not take what it was given", RESTART;
    "CKR_NO_EVENT" Ourselves "nothing has happened at the slots", RESTART;
    "CKR_NEED_TO_CREATE_THREADS" Module "the module needs threads of its own and may not have them", MODULE;
    "CKR_CANT_LOCK" Module "the module can't be used by several threads", "use a module that supports threads (CKF_OS_LOCKING_OK)";
    "CKR_ATTRIBUTE_READ_ONLY" Token "the token does not let this attribute be set", OTHER_TOKEN;
    "CKR_ATTRIBUTE_SENSITIVE" Token "the token does not show this attribute of the key", "keep the public half in the token too, under the same label and identifier";
    "CKR_ATTRIBUTE_TYPE_INVALID" Token "the token does not know an attribute", OTHER_TOKEN;
    "CKR_ATTRIBUTE_VALUE_INVALID" Token "the token does not take the value of an attribute", OTHER_TOKEN;
    "CKR_ACTION_PROHIBITED" Operator "the token's policy forbids this for this object", "change the policy of the token or of the key";
    "CKR_DATA_INVALID" Request "the data is not what the mechanism takes", OTHER_TOKEN;
    "CKR_DATA_LEN_RANGE" Request "the data is too long or too short for the mechanism", OTHER_TOKEN;
    "CKR_DEVICE_ERROR" Token "the device reports a fault", DEVICE;
    "CKR_DEVICE_MEMORY" Token "the device has no memory left", "remove objects that are not needed, or use another token";
    "CKR_DEVICE_REMOVED" Token "the device was removed", DEVICE;
    "CKR_ENCRYPTED_DATA_INVALID" Request "the ciphertext was not made for this key", "encrypt for the certificate of this key";
    "CKR_ENCRYPTED_DATA_LEN_RANGE" Request "the ciphertext has another length than the key", "encrypt for the certificate of this key";
    "CKR_AEAD_DECRYPT_FAILED" Request "the ciphertext is not authentic", "encrypt for the certificate of this key";
    "CKR_FUNCTION_CANCELED" Operator "the call was cancelled while it was under way", "repeat it";
    "CKR_FUNCTION_NOT_PARALLEL" Ourselves "no call runs beside this one", RESTART;
    "CKR_FUNCTION_NOT_SUPPORTED" Module "the module does not have this function", OTHER_TOKEN;
    "CKR_KEY_HANDLE_INVALID" Token "the key is not there any more", "check with `pkcs11-tool --list-objects --login` that the key is in the token";
    "CKR_KEY_SIZE_RANGE" Operator "the token does not take keys of this size", "choose another size with `--bits`";
    "CKR_KEY_TYPE_INCONSISTENT" Operator "the key is of another kind than the mechanism", "name an RSA key";
    "CKR_KEY_NOT_NEEDED" Ourselves "a key was given where none is needed", RESTART;
    "CKR_KEY_CHANGED" Operator "the key is another than before", "name the key of the certificate";
    "CKR_KEY_NEEDED" Ourselves "a key is missing that is needed", RESTART;
    "CKR_KEY_INDIGESTIBLE" Token "the token can't hash this key", OTHER_TOKEN;
    "CKR_KEY_FUNCTION_NOT_PERMITTED" Operator "the key was not made for this use", KEY_RIGHTS;
    "CKR_KEY_NOT_WRAPPABLE" Token "the key may not be wrapped", OTHER_TOKEN;
    "CKR_KEY_UNEXTRACTABLE" Token "the key never leaves the token", OTHER_TOKEN;
    "CKR_MECHANISM_INVALID" Token "the token does not have this mechanism", OTHER_TOKEN;
    "CKR_MECHANISM_PARAM_INVALID" Token "the token does not take the parameters of the mechanism", "set `oaep` of the module to `host` or `sha1`";
    "CKR_OBJECT_HANDLE_INVALID" Token "the object is not there any more", "check with `pkcs11-tool --list-objects --login` that the key is in the token";
    "CKR_OPERATION_ACTIVE" Module "another operation is under way in the session", RESTART;
    "CKR_OPERATION_NOT_INITIALIZED" Module "the operation was not begun, or the token has forgotten it", RESTART;
    "CKR_PIN_INCORRECT" Operator "the PIN is not the token's", PIN_SOURCE;
    "CKR_PIN_INVALID" Operator "the PIN has characters that the token does not take", PIN_SOURCE;
    "CKR_PIN_LEN_RANGE" Operator "the PIN is too short or too long for the token", PIN_SOURCE;
    "CKR_PIN_EXPIRED" Operator "the PIN has expired", "set a new PIN with the token's own tool (`pkcs11-tool --change-pin`), and write it to the PIN's source";
    "CKR_PIN_LOCKED" Operator "the PIN is locked after too many wrong ones", "unlock it as security officer (`pkcs11-tool --login --login-type so --init-pin`), and correct the PIN in its source";
    "CKR_SESSION_CLOSED" Token "the session was closed, by the token or by its removal", DEVICE;
    "CKR_SESSION_COUNT" Operator "the token has no session left", "configure fewer `sessions`, or close those of other programs";
    "CKR_SESSION_HANDLE_INVALID" Token "the session is not there any more", DEVICE;
    "CKR_SESSION_PARALLEL_NOT_SUPPORTED" Ourselves "parallel sessions do not exist any more", RESTART;
    "CKR_SESSION_READ_ONLY" Ourselves "the session may not change the token", RESTART;
    "CKR_SESSION_EXISTS" Operator "the token is in use by a session", "stop the other programs that use it";
    "CKR_SESSION_READ_ONLY_EXISTS" Operator "a read-only session keeps the security officer from logging in", "stop the other programs that use it";
    "CKR_SESSION_READ_WRITE_SO_EXISTS" Operator "the security officer is logged in", "log the security officer out";
    "CKR_SIGNATURE_INVALID" Request "the signature is wrong", "sign with the key of the certificate";
    "CKR_SIGNATURE_LEN_RANGE" Request "the signature has another length than the key", "sign with the key of the certificate";
    "CKR_TEMPLATE_INCOMPLETE" Token "the token asks for more attributes of a new key", "make the key with the token's own tool, and name it";
    "CKR_TEMPLATE_INCONSISTENT" Token "the token does not take these attributes together", "make the key with the token's own tool, and name it";
    "CKR_TOKEN_NOT_PRESENT" Token "the token is not in its slot", DEVICE;
    "CKR_TOKEN_NOT_RECOGNIZED" Module "the module does not know this kind of token", "name the module that belongs to the device";
    "CKR_TOKEN_WRITE_PROTECTED" Operator "the token is write-protected", "take the write protection away, or make the key elsewhere";
    "CKR_UNWRAPPING_KEY_HANDLE_INVALID" Ourselves "the unwrapping key is not there", RESTART;
    "CKR_UNWRAPPING_KEY_SIZE_RANGE" Ourselves "the token does not unwrap with keys of this size", RESTART;
    "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT" Ourselves "the unwrapping key is of another kind", RESTART;
    "CKR_USER_ALREADY_LOGGED_IN" Ourselves "the user is logged in already", RESTART;
    "CKR_USER_NOT_LOGGED_IN" Token "the login has ended", "the service logs in again; if it stays so, look for another program that logs out";
    "CKR_USER_PIN_NOT_INITIALIZED" Operator "the user PIN of the token was never set", "set it as security officer: `pkcs11-tool --token-label LABEL --login --login-type so --init-pin`";
    "CKR_USER_TYPE_INVALID" Ourselves "the token does not know this kind of user", RESTART;
    "CKR_USER_ANOTHER_ALREADY_LOGGED_IN" Operator "another user is logged in to the token", "log the security officer out, or stop the program that logged in";
    "CKR_USER_TOO_MANY_TYPES" Operator "too many users are logged in to the token", "stop the other programs that use it";
    "CKR_WRAPPED_KEY_INVALID" Ourselves "the wrapped key is malformed", RESTART;
    "CKR_WRAPPED_KEY_LEN_RANGE" Ourselves "the wrapped key has a wrong length", RESTART;
    "CKR_WRAPPING_KEY_HANDLE_INVALID" Ourselves "the wrapping key is not there", RESTART;
    "CKR_WRAPPING_KEY_SIZE_RANGE" Ourselves "the token does not wrap with keys of this size", RESTART;
    "CKR_WRAPPING_KEY_TYPE_INCONSISTENT" Ourselves "the wrapping key is of another kind", RESTART;
    "CKR_RANDOM_SEED_NOT_SUPPORTED" Token "the token takes no seed", RESTART;
    "CKR_RANDOM_NO_RNG" Token "the token has no source of randomness", OTHER_TOKEN;
    "CKR_DOMAIN_PARAMS_INVALID" Token "the token does not take these domain parameters", OTHER_TOKEN;
    "CKR_CURVE_NOT_SUPPORTED" Token "the token does not know this curve", OTHER_TOKEN;
    "CKR_BUFFER_TOO_SMALL" Module "the module gives more octets than the operation has", RESTART;
    "CKR_SAVED_STATE_INVALID" Ourselves "the saved state is malformed", RESTART;
    "CKR_INFORMATION_SENSITIVE" Token "the token does not give this away", OTHER_TOKEN;
    "CKR_STATE_UNSAVEABLE" Token "the token can't save its state", OTHER_TOKEN;
    "CKR_CRYPTOKI_NOT_INITIALIZED" Module "the module is not initialised", RESTART;
    "CKR_CRYPTOKI_ALREADY_INITIALIZED" Module "the module is initialised already", RESTART;
    "CKR_MUTEX_BAD" Module "the module was given a lock that is none", MODULE;
    "CKR_MUTEX_NOT_LOCKED" Module "the module releases a lock that it does not hold", MODULE;
    "CKR_NEW_PIN_MODE" Operator "the token wants a new PIN", "set a new PIN with the token's own tool, and write it to the PIN's source";
    "CKR_NEXT_OTP" Operator "the token wants the next one-time password", "use a token that a PIN opens";
    "CKR_EXCEEDED_MAX_ITERATIONS" Token "the token found no key or domain parameters in its number of attempts", "repeat it";
    "CKR_FIPS_SELF_TEST_FAILED" Token "the token has failed its self-test and does nothing more", "follow the vendor's instructions; restarting the device repeats the test";
    "CKR_LIBRARY_LOAD_FAILED" Module "the module can't load a library that it needs", "install the module's package with all that it depends on";
    "CKR_PIN_TOO_WEAK" Operator "the token does not take so weak a PIN", "choose a longer PIN";
    "CKR_PUBLIC_KEY_INVALID" Token "the token does not take the public key", OTHER_TOKEN;
    "CKR_FUNCTION_REJECTED" Operator "the request was rejected, at the device or by a person", "repeat it, and confirm at the device if it asks";
    "CKR_TOKEN_RESOURCE_EXCEEDED" Token "the token has not the means for this operation", "configure fewer `sessions`, or remove objects that are not needed";
    "CKR_OPERATION_CANCEL_FAILED" Token "an operation can't be cancelled", DEVICE;
    "CKR_KEY_EXHAUSTED" Operator "the key was used as often as it may be", "make a new key, and a certificate over it";
    "CKR_PENDING" Token "the operation is still under way", DEVICE;
    "CKR_SESSION_ASYNC_NOT_SUPPORTED" Ourselves "the session does nothing in the background", RESTART;
    "CKR_SEED_RANDOM_REQUIRED" Operator "the token needs a seed for its source of randomness", "set the token up with its own tool";
    "CKR_OPERATION_NOT_VALIDATED" Operator "the token does this only outside of its validated mode", "choose an operation that the token's validation covers";
    "CKR_TOKEN_NOT_INITIALIZED" Operator "the token was never initialised", "initialise it: `pkcs11-tool --init-token --label LABEL`";
    "CKR_PARAMETER_SET_NOT_SUPPORTED" Token "the token does not know this parameter set", OTHER_TOKEN;
};

/// The numbers of [`RETURN_VALUES`], from the header of PKCS#11 3.2: first and last of each run.
const ASSIGNED: &[(u64, u64)] = &[
    (1, 3),
    (5, 10),
    (16, 19),
    (27, 27),
    (32, 33),
    (48, 50),
    (64, 66),
    (80, 81),
    (84, 84),
    (96, 96),
    (98, 106),
    (112, 113),
    (130, 130),
    (144, 145),
    (160, 164),
    (176, 177),
    (179, 184),
    (192, 193),
    (208, 209),
    (224, 226),
    (240, 242),
    (256, 261),
    (272, 272),
    (274, 277),
    (288, 289),
    (304, 304),
    (320, 320),
    (336, 336),
    (352, 352),
    (368, 368),
    (384, 384),
    (400, 401),
    (416, 417),
    (432, 433),
    (437, 441),
    (512, 521),
];

/// The name of a number, for those that the library does not know yet.
pub(crate) fn name_of(number: u64) -> Option<&'static str> {
    let numbers = ASSIGNED.iter().flat_map(|(first, last)| *first..=*last);
    let mut named = numbers.zip(RETURN_VALUES);
    named.find_map(|(assigned, value)| (assigned == number).then_some(value.name))
}

/// What a name of the standard says; nothing for a vendor's own value.
pub(crate) fn return_value(name: &str) -> Option<&'static ReturnValue> {
    RETURN_VALUES.iter().find(|value| value.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::named;
    use cryptoki::error::Rv;

    #[test]
    fn every_return_value_has_its_own_words_and_a_remedy() {
        let mut names = Vec::new();
        for number in ASSIGNED.iter().flat_map(|(first, last)| *first..=*last) {
            let Rv::Error(code) = Rv::from(number) else {
                panic!("{number} is no error");
            };
            let name = named(code);
            let value =
                return_value(&name).unwrap_or_else(|| panic!("{name} ({number}) has no row"));
            assert!(
                !value.words.is_empty() && !value.remedy.is_empty(),
                "{name}"
            );
            names.push(value.name);
        }
        let rows: Vec<_> = RETURN_VALUES.iter().map(|value| value.name).collect();
        assert_eq!(
            names, rows,
            "in the order of their numbers, and no row for another"
        );
        let mut words: Vec<_> = RETURN_VALUES.iter().map(|value| value.words).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), RETURN_VALUES.len(), "two have the same words");
    }

    #[test]
    fn pins_have_a_remedy_each() {
        let remedy = |name: &str| return_value(name).unwrap().remedy;
        assert!(remedy("CKR_USER_PIN_NOT_INITIALIZED").contains("--init-pin"));
        assert!(remedy("CKR_PIN_LOCKED").contains("unlock"));
        assert!(remedy("CKR_PIN_EXPIRED").contains("--change-pin"));
        assert!(remedy("CKR_PIN_INCORRECT").contains("source"));
        for (name, blame) in [
            ("CKR_PIN_LOCKED", Operator),
            ("CKR_DEVICE_REMOVED", Token),
            ("CKR_GENERAL_ERROR", Module),
        ] {
            assert_eq!(return_value(name).unwrap().blame, blame, "{name}");
        }
        assert!(return_value("CKR_0x80000001").is_none());
    }
}
