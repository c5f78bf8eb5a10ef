//! Examines the way to a key: module, token, PIN, sessions, and the key itself.

use std::sync::Arc;

use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::slot::Limit;
use hgs_custody::Pkcs11Uri;

use crate::findings::{Examination, KeyFinding, MechanismFinding, SessionFinding, Stage};
use crate::key::only;
use crate::modules::Modules;
use crate::profile::Profile;
use crate::search::KeyName;
use crate::session::{TokenSession, lost};
use crate::token::{Report, Token};
use crate::{Oaep, TokenError};

/// Examines the way to a key in the module that has its token, or that came nearest.
pub(crate) fn examine(modules: &Modules, uri: &Pkcs11Uri) -> Examination {
    let candidates = match modules.candidates(uri) {
        Ok(candidates) => candidates,
        Err(error) => return Examination::failed(Report::default(), error),
    };
    let mut nearest: Option<Examination> = None;
    for (token, oaep) in candidates {
        let examination = examine_at(&token, oaep, KeyName::of(uri));
        let stage = examination.failure().map_or(usize::MAX, TokenError::stage);
        let known = nearest.as_ref().and_then(Examination::failure);
        if nearest.is_none() || known.is_some_and(|known| stage > known.stage()) {
            nearest = Some(examination);
        }
        if stage > 1 {
            break;
        }
    }
    nearest.unwrap_or_else(|| Examination::failed(Report::default(), TokenError::NoModule))
}

fn examine_at(token: &Arc<Token>, oaep: Oaep, name: KeyName) -> Examination {
    token.look_again();
    let seen = token.run(move |token_session| {
        // What is wrong with the key is not the token's fault: its sessions are shown with it.
        Ok((
            session_limits(token_session),
            key_at(token_session, oaep, &name),
        ))
    });
    let report = token.report();
    let (limits, found) = match seen {
        Ok(seen) => seen,
        Err(error) => return Examination::failed(report, error),
    };
    let (maximum, in_use) = limits;
    let sessions = SessionFinding {
        maximum,
        in_use,
        ..token.sessions()
    };
    let mut examination = match found {
        Ok((key, mechanisms)) => Examination {
            key: Stage::Passed(key),
            mechanisms: Stage::Passed(mechanisms),
            ..Examination::reported(report)
        },
        Err(error) => Examination::failed(report, error),
    };
    examination.sessions = Stage::Passed(sessions);
    examination
}

fn key_at(
    token_session: &mut TokenSession,
    oaep: Oaep,
    name: &KeyName,
) -> Result<(KeyFinding, MechanismFinding), TokenError> {
    let handle = only(token_session, name)?;
    let key = key_finding(token_session, handle, name)?;
    let (profile, _) = Profile::of(token_session, handle, &key.public, oaep)?;
    Ok((key, profile.finding()))
}

/// How many sessions the token allows, and how many are open.
fn session_limits(token_session: &TokenSession) -> (Option<u64>, Option<u64>) {
    let Ok(info) = token_session.context.get_token_info(token_session.slot) else {
        return (None, None);
    };
    let maximum = match info.max_session_count() {
        Limit::Max(maximum) => Some(maximum),
        _ => None,
    };
    (maximum, info.session_count())
}

fn key_finding(
    token_session: &TokenSession,
    handle: ObjectHandle,
    name: &KeyName,
) -> Result<KeyFinding, TokenError> {
    let public = token_session.public_half(handle, name)?;
    let mut key = KeyFinding {
        public: public.ok_or(TokenError::PublicHalfHidden)?,
        label: String::new(),
        id: Vec::new(),
        signs: false,
        decrypts: false,
        sensitive: false,
        extractable: false,
    };
    let types = [
        AttributeType::Label,
        AttributeType::Id,
        AttributeType::Sign,
        AttributeType::Decrypt,
        AttributeType::Sensitive,
        AttributeType::Extractable,
    ];
    let attributes = token_session.attributes(handle, &types);
    for attribute in attributes.map_err(|error| lost(&error))? {
        match attribute {
            Attribute::Label(label) => key.label = String::from_utf8_lossy(&label).into_owned(),
            Attribute::Id(id) => key.id = id,
            Attribute::Sign(signs) => key.signs = signs,
            Attribute::Decrypt(decrypts) => key.decrypts = decrypts,
            Attribute::Sensitive(sensitive) => key.sensitive = sensitive,
            Attribute::Extractable(extractable) => key.extractable = extractable,
            _ => {}
        }
    }
    Ok(key)
}

impl Examination {
    /// What the keeper saw before there were sessions.
    fn reported(report: Report) -> Self {
        let login = report.logged_in.then_some(());
        Self {
            module: Stage::seen(report.module),
            token: Stage::seen(report.token),
            pin: Stage::seen(report.pin),
            login: Stage::seen(login),
            sessions: Stage::Skipped,
            key: Stage::Skipped,
            mechanisms: Stage::Skipped,
        }
    }

    /// `error` at its stage, what the keeper saw before it, and nothing after it.
    fn failed(report: Report, error: TokenError) -> Self {
        let mut examination = Self::reported(report);
        let stage = error.stage();
        examination.module.end_at(0, stage, &error);
        examination.token.end_at(1, stage, &error);
        examination.pin.end_at(2, stage, &error);
        examination.login.end_at(3, stage, &error);
        examination.sessions.end_at(4, stage, &error);
        examination.key.end_at(5, stage, &error);
        examination.mechanisms.end_at(6, stage, &error);
        examination
    }
}

impl<T> Stage<T> {
    fn seen(finding: Option<T>) -> Self {
        finding.map_or(Self::Skipped, Self::Passed)
    }

    fn end_at(&mut self, own: usize, failed: usize, error: &TokenError) {
        if own == failed {
            *self = Self::Failed(error.clone());
        } else if own > failed {
            *self = Self::Skipped;
        }
    }
}
