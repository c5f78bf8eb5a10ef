//! Protectors, as they are shown.

use hgs_admin::types::{Protector, ProtectorLineage, ProtectorQuery, ProtectorStage};
use hgs_admin::{AdminError, HostSelector};
use hgs_store::{Heads, KnownProtector, ProtectorLine, Stage, State};

use super::{find_host, given};

/// Ancestors that are shown at most, and as many protectors that never came back.
pub(super) const MAX_RELATIVES: usize = 100;

/// What the store is asked for.
pub(super) fn wanted(state: &State, query: &ProtectorQuery) -> Result<Heads, AdminError> {
    let after = query.after.as_deref().map(str::parse);
    let host = query.host.as_deref().map(|name| host_id(state, name));
    Ok(Heads {
        until: query.until.as_deref().map(given::time).transpose()?,
        after: after.transpose().map_err(AdminError::invalid)?,
        host: host.transpose()?,
    })
}

/// A host that was removed is known by its id still.
fn host_id(state: &State, name: &str) -> Result<hgs_pki::health::HostId, AdminError> {
    let selector: HostSelector = name.parse()?;
    find_host(state, &selector)
        .map(|host| host.id)
        .or_else(|unknown| name.parse().map_err(|_| unknown))
}

pub(super) fn lineage(state: &State, line: ProtectorLine) -> ProtectorLineage {
    let all = |found: Vec<KnownProtector>| {
        let shown = found.into_iter().map(|one| shown(state, one));
        shown.collect()
    };
    ProtectorLineage {
        protector: shown(state, line.protector),
        ancestors: all(line.ancestors),
        issued: all(line.issued),
    }
}

pub(super) fn shown(state: &State, known: KnownProtector) -> Protector {
    let host = known.host.parse().ok().and_then(|id| state.host(&id));
    let guardian = known.opened_by;
    let certificate = guardian.and_then(|thumbprint| state.certificate(&thumbprint));
    Protector {
        protector: known.digest.to_string(),
        parent: known.parent.map(|parent| parent.to_string()),
        stage: match known.stage {
            Stage::Issued => ProtectorStage::Issued,
            Stage::Head => ProtectorStage::Head,
            Stage::Ancestor => ProtectorStage::Ancestor,
        },
        owner: known.owner.to_string(),
        guardian: guardian.map(|thumbprint| thumbprint.to_string()),
        lineage: certificate.map(|record| record.lineage.to_string()),
        host_name: host.map(|host| host.name.to_string()),
        host: known.host,
        first: known.first.to_string(),
        last: known.last.to_string(),
    }
}
