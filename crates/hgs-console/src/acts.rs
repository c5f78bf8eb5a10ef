//! What changes something. Each act has a page that shows what will change, and a form in it that does it. Where there is a
//! script, the page is opened as a dialog.

pub(crate) mod certificates;
pub(crate) mod overview;
pub(crate) mod policies;
pub(crate) mod signers;
pub(crate) mod tenants;

use std::collections::BTreeMap;

use hgs_admin::types::{
    AddHost, ApproveHosts, Host, HostEvidence, HostQuery, RevokeHost, SimulatePolicies,
};
use hgs_admin::{AdminError, Administration as _, ErrorCode};

use crate::routes::policies::WAITING;
use crate::routes::{Asked, HOST, SESSIONS, Shown};
use crate::views::hosts::{self, Alike};
use crate::views::sessions;
use crate::views::waiting::{self, Group};
use crate::{Notice, Page, Path, given};

/// Where to go when something was done, and what is said there.
type Done = Result<(Path, Notice), AdminError>;

/// An act.
#[derive(Debug, Clone, Copy)]
pub struct Act {
    /// The page with its form, with what was entered, and why it was not done.
    pub(crate) page: fn(&Asked<'_>, &Entered, Option<&AdminError>) -> Result<Page, AdminError>,
    /// Does it. Where to go then, and what is said there.
    pub(crate) perform: fn(&Asked<'_>, &Entered) -> Done,
}

impl Act {
    /// Does what was entered. If the guardian refuses it, the form is shown again.
    pub(crate) fn carry_out(
        &self,
        asked: &Asked<'_>,
        entered: &Entered,
    ) -> Result<Shown, AdminError> {
        match (self.perform)(asked, entered) {
            Ok((path, notice)) => Ok(Shown::Done(path, notice)),
            Err(error) if matches!(error.code, ErrorCode::InvalidRequest | ErrorCode::Conflict) => {
                let page = (self.page)(asked, entered, Some(&error))?;
                Ok(Shown::Refused(page, error.code))
            }
            Err(error) => Err(error),
        }
    }
}

/// What somebody entered into a form.
#[derive(Debug, Default)]
pub struct Entered(BTreeMap<String, String>);

impl Entered {
    /// Reads a form as browsers send it.
    pub(crate) fn read(form: &[u8]) -> Result<Self, AdminError> {
        serde_urlencoded::from_bytes(form)
            .map(Self)
            .map_err(AdminError::invalid)
    }

    /// For fuzzing: the form that a browser would send with the same in its fields is read as the same.
    pub(crate) fn examine(&self) {
        let written = serde_urlencoded::to_string(&self.0).expect("a form");
        let again = Self::read(written.as_bytes()).expect("a form");
        assert_eq!(again.0, self.0);
    }

    /// Whether nothing was sent: the form is shown for the first time.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was entered into a field.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.get(name).map(|text| text.trim()).unwrap_or_default()
    }

    /// The same, if it is not empty.
    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        given(self.field(name))
    }
}

pub(crate) const ADD_HOST: Act = Act {
    page: |asked, entered, error| {
        let status = asked.administration.status()?;
        Ok(hosts::add(&status, entered, error))
    },
    perform: |asked, entered| {
        let credential = entered.field("credential");
        // A platform identity is JSON, a host key is PEM or Base64.
        let is_identity = credential.starts_with('{');
        let host = AddHost {
            name: entered.field("name").to_owned(),
            host_key: (!is_identity).then(|| credential.to_owned()),
            identity: is_identity.then(|| credential.to_owned()),
            group: entered.optional("group"),
            without_ek_certificate: false,
        };
        let added = asked.administration.add_host(&host)?;
        Ok((Path::or_start(HOST.path_of(&added.name)), Notice::HostAdded))
    },
};

pub(crate) const REVOKE_HOST: Act = Act {
    page: |asked, entered, error| {
        let host = asked.administration.host(&asked.host()?)?;
        Ok(hosts::revoke(&host, entered, error, asked.now))
    },
    perform: |asked, entered| {
        let revocation = RevokeHost {
            reason: entered.field("reason").to_owned(),
        };
        if revocation.reason.is_empty() {
            return Err(AdminError::invalid("say why, for those who read the log"));
        }
        let host = asked
            .administration
            .revoke_host(&asked.host()?, &revocation)?;
        Ok((
            Path::or_start(HOST.path_of(&host.name)),
            Notice::HostRevoked,
        ))
    },
};

pub(crate) const APPROVE_HOST: Act = Act {
    page: |asked, entered, error| {
        let evidence = asked.administration.host_evidence(&asked.host()?)?;
        let judged = asked
            .administration
            .simulate_policies(&as_it_booted(&evidence))?;
        let alike = waiting::alike(asked.administration.hosts(&HostQuery::default())?);
        let is_among = |hosts: &Vec<Host>| hosts.iter().any(|host| host.name == evidence.host);
        let alike = alike.into_iter().find(is_among).unwrap_or_default();
        let refusal = Group {
            hosts: alike,
            judged,
        };
        Ok(hosts::approve(
            &evidence,
            &refusal,
            (entered, is_of_all(asked, entered)?),
            error,
            asked.now,
        ))
    },
    perform: |asked, entered| {
        let host = asked.host()?;
        let alike = is_of_all(asked, entered)?;
        let approval = ApproveHosts {
            hosts: (!alike).then(|| host.to_string()).into_iter().collect(),
            like: alike.then(|| host.to_string()),
            label: entered.optional("label"),
        };
        asked.administration.approve_hosts(&approval)?;
        Ok(match alike {
            true => (WAITING.fixed_path(), Notice::HostsApproved),
            false => (
                Path::or_start(HOST.path_of(asked.segment)),
                Notice::HostApproved,
            ),
        })
    },
};

/// Whether all hosts are meant that differ in the same way: as entered, or as the link has it that leads to the form.
fn is_of_all(asked: &Asked<'_>, entered: &Entered) -> Result<bool, AdminError> {
    Ok(match entered.is_empty() {
        true => asked.query::<Alike>()?.alike,
        false => entered.field("alike") == "yes",
    })
}

/// The last evidence of a host, to be judged by what is in effect now.
pub(crate) fn as_it_booted(evidence: &HostEvidence) -> SimulatePolicies {
    let values = evidence.pcr_values.iter();
    let pcrs =
        values.filter_map(|value| Some((u8::try_from(value.pcr).ok()?, value.value.clone())));
    SimulatePolicies {
        log: evidence.event_log.clone(),
        ima: Some(evidence.ima_log.clone()).filter(|log| !log.is_empty()),
        pcrs: pcrs.collect(),
        host: Some(evidence.host.clone()),
        ..SimulatePolicies::default()
    }
}

pub(crate) const REVOKE_SESSION: Act = Act {
    page: |asked, _, error| {
        let found = asked.administration.console_sessions()?;
        let mut found = found.iter();
        let session = found.find(|session| session.session == asked.segment);
        let session = session.ok_or_else(|| {
            AdminError::new(ErrorCode::NotFound, "this session has ended already")
        })?;
        Ok(sessions::revoke(session, asked.viewer, error, asked.now))
    },
    perform: |asked, _| {
        asked
            .administration
            .revoke_console_session(&asked.host()?)?;
        Ok((SESSIONS.fixed_path(), Notice::SessionRevoked))
    },
};
