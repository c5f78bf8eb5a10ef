//! The act that tries whether a VM can start.

use hgs_admin::{AdminError, Administration as _, ErrorCode};

use super::Act;
use crate::views::overview;
use crate::{Notice, Path};

pub(crate) const TRY_RELEASE: Act = Act {
    page: |_, _, error| Ok(overview::try_release(error)),
    perform: |asked, _| {
        let roll = asked.administration.synthetic_roll()?.0;
        let found = roll.released.and_then(|()| roll.tampered.map(drop));
        found.map_err(|problem| {
            let trace =
                "run `hgs trace` on the guardian's machine: it names the cause and what to do";
            let error = AdminError::new(ErrorCode::Conflict, &problem);
            error.with_remedy(problem.remedy.unwrap_or_else(|| trace.to_owned()))
        })?;
        Ok((Path::start(), Notice::ReleaseTried))
    },
};
