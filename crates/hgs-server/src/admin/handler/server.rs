//! Settings of the service that are part of its state.

use hgs_admin::{AdminError, ErrorCode};
use hgs_kps::CertificateKind;
use hgs_store::Transaction;

use super::AdminHandler;

impl AdminHandler<'_> {
    pub(super) fn new_communications(&self, thumbprint: &str) -> Result<Transaction, AdminError> {
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
