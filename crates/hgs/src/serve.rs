//! `hgs serve`.

use std::sync::Arc;

use hgs_clock::SystemClock;
use hgs_server::config::LogFormat;
use hgs_server::http::BindError;
use hgs_server::{
    Config, GuardianError, PEERS, PassedSocketError, PassedSockets, StartError, TRACED, Telemetry,
    process, signals,
};
use hgs_terminal::{AtFault, Exit, Failure, LogForm, Traces, start_logging_and_traces};
use tokio::runtime::Runtime;

use crate::config_option::ConfigOption;
use crate::failures::{IntoFailure, OrFail as _};

/// Serve both protocols and the administrators' socket, until SIGTERM or SIGINT
///
/// SIGHUP makes it read its TLS certificate again. Logs go to standard error.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        // First, as it is about the process: there are no threads yet.
        let passed = PassedSockets::of_process().or_fail()?;
        let config = self.config.load()?;
        let form = match config.log.format {
            LogFormat::Text => LogForm::Text,
            LogFormat::Json => LogForm::Json,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
        let telemetry = Telemetry::start(&config, runtime.handle())
            .map_err(|error| Failure::of(&error).at_fault(AtFault::Operator))?;
        let traces = telemetry.as_ref().map(|telemetry| Traces {
            target: TRACED,
            layer: telemetry.layer(),
        });
        start_logging_and_traces(&config.log.level, form, Some(PEERS), traces)
            .map_err(|failure| failure.while_doing("log.level"))?;
        if let Err(error) = process::raise_file_limit() {
            tracing::warn!(%error, "the number of files that may be open can't be raised");
        }
        let served = Self::serve(&config, passed, &runtime);
        // While the runtime still sends.
        if let Some(telemetry) = telemetry {
            telemetry.stop();
        }
        served
    }

    fn serve(config: &Config, passed: PassedSockets, runtime: &Runtime) -> Result<Exit, Failure> {
        runtime.block_on(async {
            let guardian = hgs_server::start_with(config, Arc::new(SystemClock), passed)
                .await
                .or_fail()?;
            let stopped = signals::serve(guardian)
                .await
                .map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
            match stopped.finished {
                true => Ok(Exit::Done),
                false => Err(Failure::failed(
                    "stopped before every request that was taken was answered",
                )),
            }
        })
    }
}

impl IntoFailure for PassedSocketError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self).at_fault(AtFault::Operator);
        failure.remedy(
            "in the socket unit, name one TCP address with ListenStream= and the listener with FileDescriptorName=: http, https, \
             metrics or api",
        )
    }
}

impl IntoFailure for StartError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self).at_fault(AtFault::Operator);
        match self {
            Self::Guardian(GuardianError::Store(error)) => error.into_failure(),
            Self::Guardian(GuardianError::MasterKey(error)) => error.into_failure(),
            Self::Guardian(GuardianError::Cluster(error)) => error.into_failure(),
            Self::Bind(BindError::Address { .. }) => failure.remedy(
                "choose another address or port in the configuration; `hgs server check` knows more",
            ),
            Self::Bind(BindError::SwitchedOff(_)) => failure.remedy(
                "switch the listener on in the configuration, or disable its socket unit: systemctl disable --now openhgs-NAME.socket",
            ),
            Self::Bind(_) => failure.remedy("`hgs server check` knows more"),
            Self::Guardian(_) => failure,
        }
    }
}
