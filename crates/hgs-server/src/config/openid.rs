//! `[listen.console.openid]`: signing in to the console by OpenID Connect.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hgs_admin::Role;
use hgs_openid::{Algorithm, Issuer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::quantity::{DAY, HOUR, MINUTE, SECOND, period};

/// Groups that are given roles, at most.
const MAX_GROUPS: usize = 256;
/// Characters of the longest name: of a client, a claim, a scope or a group.
const MAX_NAME: usize = 256;

/// `[listen.console.openid]`: whose word is taken for who a user is, and what its groups may do. Nobody signs in so unless
/// there is an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenId {
    /// The provider: the `issuer` of its metadata.
    #[serde(serialize_with = "write_issuer", deserialize_with = "read_issuer")]
    pub issuer: Option<Issuer>,
    /// The name of the console at the provider.
    #[serde(deserialize_with = "optional_name")]
    pub client_id: Option<String>,
    /// File with the secret of the client; a public client has none.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for besides `openid`.
    #[serde(deserialize_with = "scopes")]
    pub scopes: Vec<String>,
    /// The claim of the ID token that holds the groups of a user.
    #[serde(deserialize_with = "name")]
    pub groups_claim: String,
    /// How ID tokens may be signed.
    #[serde(
        serialize_with = "write_algorithms",
        deserialize_with = "read_algorithms"
    )]
    pub algorithms: Vec<Algorithm>,
    /// PEM file of the authorities that may vouch for the provider's certificate; the system's when absent.
    pub authorities: Option<PathBuf>,
    /// After how long the provider has to ask the user again who it is; as it likes when absent.
    #[serde(serialize_with = "write_max_age", deserialize_with = "period_or_none")]
    pub max_age: Option<Duration>,
    /// How long a session lasts at most.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, { 5 * MINUTE }, { 8 * HOUR }>"
    )]
    pub session_time: Duration,
    /// By how much the clocks of the guardian and of the provider may differ.
    #[serde(
        serialize_with = "period::serialize",
        deserialize_with = "period::between::<_, SECOND, { 10 * MINUTE }>"
    )]
    pub clock_tolerance: Duration,
    /// What the groups of the provider may do.
    #[serde(rename = "group", deserialize_with = "groups")]
    pub groups: Vec<OpenIdGroup>,
}

/// `[[listen.console.openid.group]]`: what the users of one group may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenIdGroup {
    /// The group, as the provider calls it in ID tokens.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// The roles of its users.
    pub roles: Vec<Role>,
}

impl Default for OpenId {
    fn default() -> Self {
        Self {
            issuer: None,
            client_id: None,
            client_secret_file: None,
            scopes: Vec::new(),
            groups_claim: "groups".to_owned(),
            algorithms: vec![Algorithm::Rs256],
            authorities: None,
            max_age: None,
            session_time: Duration::from_secs(8 * 60 * 60),
            clock_tolerance: Duration::from_mins(1),
            groups: Vec::new(),
        }
    }
}

/// What is missing in `[listen.console.openid]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenIdIncomplete {
    /// Other keys are there.
    #[error("[listen.console.openid] has keys and no `issuer`, so nobody signs in by it")]
    Issuer,
    /// The provider would not know who asks.
    #[error("[listen.console.openid] has an `issuer` and no `client_id`")]
    ClientId,
    /// Everybody would be refused.
    #[error("[listen.console.openid] gives no group a role, so everybody is refused")]
    Groups,
}

impl OpenId {
    /// The provider and the name of the console there, where users sign in so.
    ///
    /// # Errors
    /// What is missing.
    pub fn provider(&self) -> Result<Option<(&Issuer, &str)>, OpenIdIncomplete> {
        match (&self.issuer, &self.client_id) {
            (None, _) if *self == Self::default() => Ok(None),
            (None, _) => Err(OpenIdIncomplete::Issuer),
            (Some(_), None) => Err(OpenIdIncomplete::ClientId),
            (Some(_), Some(_)) if self.groups.is_empty() => Err(OpenIdIncomplete::Groups),
            (Some(issuer), Some(client_id)) => Ok(Some((issuer, client_id))),
        }
    }

    /// What each group may do.
    #[must_use]
    pub fn roles(&self) -> BTreeMap<String, Vec<Role>> {
        let groups = self.groups.iter();
        groups
            .map(|group| (group.name.clone(), group.roles.clone()))
            .collect()
    }
}

fn read_issuer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Issuer>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let issuer = text.parse();
    issuer
        .map(Some)
        .map_err(|error| de::Error::custom(format_args!("`{text}` is no issuer: {error}")))
}

fn write_issuer<S: Serializer>(issuer: &Option<Issuer>, serializer: S) -> Result<S::Ok, S::Error> {
    issuer.as_ref().map(Issuer::as_str).serialize(serializer)
}

fn read_algorithms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Algorithm>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.is_empty() {
        return Err(de::Error::custom("name at least one of RS256 and ES256"));
    }
    let algorithms = texts.iter().map(|text| {
        let algorithm = text.parse();
        algorithm.map_err(|error| de::Error::custom(format_args!("`{text}`: {error}")))
    });
    algorithms.collect()
}

fn write_algorithms<S: Serializer>(
    algorithms: &[Algorithm],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(algorithms.iter().map(|algorithm| algorithm.name()))
}

fn period_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    period::between::<_, { MINUTE }, { 30 * DAY }>(deserializer).map(Some)
}

fn write_max_age<S: Serializer>(
    max_age: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match max_age {
        Some(max_age) => period::serialize(max_age, serializer),
        None => serializer.serialize_none(),
    }
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_plain = !text.chars().any(char::is_control);
    match is_plain && (1..=MAX_NAME).contains(&text.chars().count()) {
        true => Ok(text),
        false => Err(de::Error::custom(format_args!(
            "write 1 to {MAX_NAME} characters without line breaks"
        ))),
    }
}

fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    name(deserializer).map(Some)
}

/// RFC 6749 section 3.3.
fn scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let scopes = Vec::<String>::deserialize(deserializer)?;
    let is_scope = |scope: &String| {
        let mut octets = scope.bytes();
        (1..=MAX_NAME).contains(&scope.len())
            && octets.all(|octet| octet.is_ascii_graphic() && !b"\"\\".contains(&octet))
    };
    match scopes.iter().find(|scope| !is_scope(scope)) {
        None => Ok(scopes),
        Some(wrong) => Err(de::Error::custom(format_args!(
            "`{wrong}` is no scope: write each as a text of its own, such as [\"profile\", \"groups\"]"
        ))),
    }
}

fn groups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OpenIdGroup>, D::Error> {
    let groups = Vec::<OpenIdGroup>::deserialize(deserializer)?;
    if groups.len() > MAX_GROUPS {
        let message = format_args!("{} groups; {MAX_GROUPS} are accepted", groups.len());
        return Err(de::Error::custom(message));
    }
    let mut roles = BTreeMap::new();
    for group in &groups {
        if group.roles.is_empty() {
            let message = format_args!("the group `{}` has no roles", group.name);
            return Err(de::Error::custom(message));
        }
        if roles.insert(&group.name, &group.roles).is_some() {
            let message = format_args!("the group `{}` stands twice", group.name);
            return Err(de::Error::custom(message));
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OpenId, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn nobody_signs_in_so_unless_all_that_is_needed_is_there() {
        assert_eq!(read("").unwrap(), OpenId::default());
        assert_eq!(OpenId::default().provider(), Ok(None));
        let issuer = "issuer = \"https://login.example/a\"\n";
        let client = "client_id = \"openhgs\"\n";
        let group = "[[group]]\nname = \"hgs admins\"\nroles = [\"administrator\", \"reviewer\"]\n";
        for (text, missing) in [
            (client.to_owned(), OpenIdIncomplete::Issuer),
            (issuer.to_owned(), OpenIdIncomplete::ClientId),
            (format!("{issuer}{client}"), OpenIdIncomplete::Groups),
        ] {
            assert_eq!(read(&text).unwrap().provider(), Err(missing), "{text}");
        }
        let whole = read(&format!("{issuer}{client}{group}")).unwrap();
        let (issuer, client) = whole.provider().unwrap().unwrap();
        assert_eq!(
            (issuer.as_str(), client),
            ("https://login.example/a", "openhgs")
        );
        assert_eq!(
            whole.roles()["hgs admins"],
            [Role::Administrator, Role::Reviewer]
        );
        assert_eq!(whole.algorithms, [Algorithm::Rs256]);
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let group =
            |name: &str, roles: &str| format!("[[group]]\nname = \"{name}\"\nroles = {roles}\n");
        let twice = group("a", "[\"reviewer\"]").repeat(2);
        for wrong in [
            "issuer = \"http://login.example\"",
            "issuer = \"https://login.example?a\"",
            "issuer = \"login.example\"",
            "client_id = \"\"",
            "client_id = \"a\\nb\"",
            "scopes = [\"profile groups\"]",
            "scopes = [\"\"]",
            "groups_claim = \"\"",
            "algorithms = []",
            "algorithms = [\"none\"]",
            "algorithms = [\"HS256\"]",
            "max_age = \"1s\"",
            "session_time = \"9h\"",
            "clock_tolerance = \"11min\"",
            "client_secret = \"hunter2\"",
            &group("a", "[]"),
            &group("a", "[\"root\"]"),
            &group("", "[\"reviewer\"]"),
            &twice,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
