//! Settings of the service that are part of its state.

use hgs_admin::types::SetServer;
use hgs_admin::{AdminError, ErrorCode};
use hgs_kps::CertificateKind;
use hgs_pki::{Seconds, Time};
use hgs_store::Transaction;

use super::AdminHandler;

impl AdminHandler<'_> {
    pub(super) fn change_server(&self, change: &SetServer) -> Result<(), AdminError> {
        let mut transactions = Vec::new();
        if let Some(thumbprint) = &change.communications_certificate {
            transactions.push(self.new_communications(thumbprint)?);
        }
        if let Some(seconds) = change.rekey_window_seconds {
            let now = self.parts.clock.now();
            let end = now.checked_add(Seconds::new(seconds)).unwrap_or(Time::MAX);
            let until = (seconds > 0).then_some(end);
            transactions.push(Transaction::SetRekeyWindow { until });
        }
        match transactions.is_empty() {
            true => Err(AdminError::invalid("nothing is to be changed")),
            false => self.transact_all(transactions),
        }
    }

    fn new_communications(&self, thumbprint: &str) -> Result<Transaction, AdminError> {
        let thumbprint = thumbprint.parse().map_err(AdminError::invalid)?;
        let record = self.find_certificate(&thumbprint)?;
        if record.kind != CertificateKind::Communications {
            let thumbprint = record.thumbprint();
            let message = format!("{thumbprint} is a {} certificate", record.kind);
            return Err(AdminError::new(ErrorCode::Conflict, message)
                .with_remedy("make one with `hgs certificate new --type communications`"));
        }
        Ok(Transaction::SetHead {
            thumbprint: record.thumbprint(),
            primary: true,
        })
    }
}
