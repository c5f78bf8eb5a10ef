//! Who asks, and how the guardian knows.

use std::fmt;

use crate::{AdminError, ErrorCode, Permission, Permissions};

/// Who a caller is. Each source of identity is a variant with what that source vouches for; [`Display`](fmt::Display) is
/// how audit records name the caller. Its first word depends on the source alone, so that no caller can be taken for
/// one that another source vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// A process on this machine, as the kernel knows it.
    Process {
        /// Its user, which the kernel vouches for.
        uid: u32,
        /// The name that the user has now.
        user: Option<String>,
    },
    /// A peer whose TLS client certificate was verified.
    Certificate {
        /// SHA-256 thumbprint of the certificate.
        thumbprint: hgs_pki::Thumbprint,
        /// The name of its entry in the server's configuration.
        name: String,
    },
    /// A user for whom a provider of OpenID Connect vouches.
    OpenId {
        /// The provider.
        issuer: String,
        /// What the provider calls the user, and never another one.
        subject: String,
        /// What people call the user.
        name: Option<String>,
    },
    /// A session of the console.
    Console {
        /// The name of the session.
        session: String,
        /// Who signed in.
        user: Box<Self>,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Process { uid, user } => {
                write!(formatter, "uid {uid}")?;
                user.as_ref()
            }
            Self::Certificate { thumbprint, name } => {
                write!(formatter, "certificate {thumbprint}")?;
                Some(name)
            }
            Self::OpenId {
                issuer,
                subject,
                name,
            } => {
                write!(formatter, "openid {issuer} {subject}")?;
                name.as_ref()
            }
            Self::Console { session, user } => {
                return write!(formatter, "console {session}, {user}");
            }
        };
        match name {
            Some(name) => write!(formatter, " ({name})"),
            None => Ok(()),
        }
    }
}

/// A caller whose identity is established, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// What it may do.
    pub permissions: Permissions,
}

impl Caller {
    /// Refuses a caller that does not have `permission`.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`], which names the caller and the permission.
    pub fn require(&self, permission: Permission) -> Result<(), AdminError> {
        if self.permissions.contains(permission) {
            return Ok(());
        }
        let message = format!(
            "{} does not have the permission {permission}",
            self.identity
        );
        Err(AdminError::new(ErrorCode::Forbidden, message)
            .with_remedy("see [listen.admin] in the server's configuration for the groups, and the file that `clients` names in [listen.api] or [listen.console.client_certificates] for client certificates"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Audit records name callers by this text.
    #[test]
    fn no_source_can_imitate_another() {
        let root = Identity::Process {
            uid: 0,
            user: Some("root".to_owned()),
        };
        assert_eq!(root.to_string(), "uid 0 (root)");
        let thumbprint = "ab".repeat(32);
        let imitation = Identity::Certificate {
            thumbprint: thumbprint.parse().unwrap(),
            name: "uid 0 (root)".to_owned(),
        };
        assert_eq!(
            imitation.to_string(),
            format!("certificate {thumbprint} (uid 0 (root))")
        );
        let at_provider = Identity::OpenId {
            issuer: "https://login.example".to_owned(),
            subject: "uid 0 (root)".to_owned(),
            name: Some("root".to_owned()),
        };
        assert_eq!(
            at_provider.to_string(),
            "openid https://login.example uid 0 (root) (root)"
        );
        let over_console = Identity::Console {
            session: "5f0c2a91".to_owned(),
            user: Box::new(Identity::Process {
                uid: 0,
                user: Some("root".to_owned()),
            }),
        };
        assert_eq!(over_console.to_string(), "console 5f0c2a91, uid 0 (root)");
    }
}
