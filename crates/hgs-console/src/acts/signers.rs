//! What changes whose health certificates are believed.

use hgs_admin::types::{AddSigner, DigestPageQuery, SetSigner, Signer};
use hgs_admin::{AdminError, Administration as _, ErrorCode, SignerSelector};

use super::{Act, Entered};
use crate::Notice;
use crate::routes::Asked;
use crate::routes::certificates::CERTIFICATES;
use crate::views::signers;

pub(crate) const ADD: Act = Act {
    page: |_, entered, error| Ok(signers::add(entered, error)),
    perform: |asked, entered| {
        let signer = AddSigner {
            certificate: entered.field("certificate").to_owned(),
            label: entered.optional("label"),
            maximum_validity_seconds: longest(entered)?,
        };
        asked.administration.add_signer(&signer)?;
        Ok((CERTIFICATES.fixed_path(), Notice::SignerAdded))
    },
};

pub(crate) const LIMIT: Act = Act {
    page: |asked, entered, error| Ok(signers::limit(&signer(asked)?, entered, error, asked.now)),
    perform: |asked, entered| {
        let serials = |name| entered.field(name).split_whitespace().map(str::to_owned);
        let change = SetSigner {
            deny_before: match entered.field("deny_before") {
                "" => None,
                "none" => Some(String::new()),
                time => Some(time.to_owned()),
            },
            label: None,
            maximum_validity_seconds: longest(entered)?,
            deny: serials("deny").collect(),
            allow: serials("allow").collect(),
        };
        if change == SetSigner::default() {
            return Err(AdminError::invalid("nothing was entered"));
        }
        let selector = SignerSelector::One(asked.thumbprint()?);
        asked.administration.set_signer(&selector, &change)?;
        Ok((CERTIFICATES.fixed_path(), Notice::SignerLimited))
    },
};

pub(crate) const RETIRE: Act = Act {
    page: |asked, _, error| Ok(signers::retire(&signer(asked)?, error, asked.now)),
    perform: |asked, _| {
        asked.administration.retire_signer(&asked.thumbprint()?)?;
        Ok((CERTIFICATES.fixed_path(), Notice::SignerRetired))
    },
};

pub(crate) const REMOVE: Act = Act {
    page: |asked, _, error| Ok(signers::remove(&signer(asked)?, error, asked.now)),
    perform: |asked, _| {
        asked.administration.remove_signer(&asked.thumbprint()?)?;
        Ok((CERTIFICATES.fixed_path(), Notice::SignerRemoved))
    },
};

/// The signer that the path names.
fn signer(asked: &Asked<'_>) -> Result<Signer, AdminError> {
    let signers = asked.administration.signers(&DigestPageQuery::default())?;
    let mut signers = signers.into_iter();
    let signer = signers.find(|one| one.thumbprint.eq_ignore_ascii_case(asked.segment));
    signer.ok_or_else(|| AdminError::new(ErrorCode::NotFound, "there is no such signer"))
}

/// The hours for which health certificates may be valid at most, in seconds.
fn longest(entered: &Entered) -> Result<Option<u32>, AdminError> {
    let hours = entered.optional("hours").map(|hours| {
        let hours = hours.parse::<u32>().ok().filter(|hours| *hours > 0);
        let seconds = hours.and_then(|hours| hours.checked_mul(3600));
        seconds.ok_or_else(|| AdminError::invalid("hours are a whole number from 1 on"))
    });
    hours.transpose()
}
