//! The keeper of a module.
//!
//! Only the keeper initialises and finalises. `C_Finalize` with a call under way is undefined, so
//! it first ends all workers and waits for them; while one does not return, the module stays as it
//! is. After a failure there is no other way: a module that lost a token does not find it
//! again before it is initialised anew, and that ends the sessions of its other tokens too.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use tracing::{debug, info, warn};

use crate::error::KEY_STAGE;
use crate::module::Module;
use crate::pin::Pin;
use crate::search::{self, PresentToken, plain};
use crate::session::{ErrorClass, TokenSession, class_of, lost};
use crate::token::{Need, Report, Token};
use crate::wake_up::{WakeReason, lock};
use crate::{Code, ModuleFinding, PinError, PinFinding, TokenError, TokenFinding};

/// Pause before the second initialisation; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause while no token of the module works.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause while another token of the module works, which each initialisation interrupts, and
/// none was lost lately.
const LONGEST_PAUSE_BESIDE_OTHERS: Duration = Duration::from_secs(60);
/// After so long without a failure, the pauses begin anew.
const FORGIVEN: Duration = Duration::from_secs(120);
/// How often the source of a PIN that can't be used is looked at.
const PIN_LOOK: Duration = Duration::from_secs(1);

/// The one thread that initialises a module, logs in, and does so again after failures.
struct Keeper {
    module: Arc<Module>,
    /// The shared object stays loaded: modules are not made for being unloaded.
    library: Option<Pkcs11>,
    initialised: bool,
    initialisation: u64,
    pause: Duration,
    last: Option<Instant>,
    /// Why the module is not initialised.
    failure: Option<TokenError>,
}

/// Starts the keeper of a module, if it has none.
pub(crate) fn start(module: &Arc<Module>) {
    let mut state = lock(&module.state);
    if state.kept {
        return;
    }
    let keeper = Keeper::of(module);
    let started = thread::Builder::new()
        .name("pkcs11-keeper".to_owned())
        .spawn(move || keeper.keep());
    match started {
        Ok(_) => state.kept = true,
        // Jobs get no answer in their time and say so; the next key tries again.
        Err(error) => warn!(%error, "no thread for a PKCS#11 module"),
    }
}

impl Keeper {
    fn of(module: &Arc<Module>) -> Self {
        Self {
            module: Arc::clone(module),
            library: None,
            initialised: false,
            initialisation: 0,
            pause: FIRST_PAUSE,
            last: None,
            failure: None,
        }
    }

    fn keep(mut self) {
        let mut at_once = false;
        loop {
            let look = self.tend(at_once);
            match self.module.wake_up.wait(look) {
                WakeReason::Closing => break,
                woken => at_once = woken == WakeReason::AtOnce,
            }
        }
        self.close();
        self.module.wake_up.notify_ended();
    }

    /// Does what there is to do, and says when to look again unless it is notified before.
    fn tend(&mut self, at_once: bool) -> Option<Instant> {
        let tokens = self.module.wanted();
        let needs: Vec<Need> = tokens.iter().map(|token| token.need()).collect();
        if needs.iter().all(|need| *need == Need::Nothing) {
            return None;
        }
        if self.initialised && !needs.contains(&Need::Initialisation) {
            self.bring_sessions(&tokens);
        } else if at_once || self.due(&tokens).is_none_or(|due| due <= Instant::now()) {
            self.initialise_for(&tokens);
        } else if self.initialised {
            self.bring_sessions(&tokens);
        } else if let Some(failure) = &self.failure {
            let waiting = tokens.iter().filter(|token| token.need() == Need::Sessions);
            waiting.for_each(|token| token.fail(failure));
        }
        self.next_look(&tokens)
    }

    fn next_look(&self, tokens: &[Arc<Token>]) -> Option<Instant> {
        let needs: Vec<Need> = tokens.iter().map(|token| token.need()).collect();
        let initialisation = needs
            .iter()
            .any(|need| {
                *need == Need::Initialisation || (*need != Need::Nothing && !self.initialised)
            })
            .then(|| self.due(tokens).unwrap_or_else(Instant::now));
        let pin = needs
            .contains(&Need::Pin)
            .then(|| Instant::now() + PIN_LOOK);
        [initialisation, pin].into_iter().flatten().min()
    }

    /// When the module may be initialised next.
    fn due(&self, tokens: &[Arc<Token>]) -> Option<Instant> {
        Some(self.last? + self.pause.min(longest_pause(tokens)))
    }

    fn bring_sessions(&self, tokens: &[Arc<Token>]) {
        for token in tokens {
            if matches!(token.need(), Need::Sessions | Need::Pin) {
                self.attend(token);
            }
        }
    }

    /// Initialises the module, anew if it is, and brings sessions to all tokens.
    fn initialise_for(&mut self, tokens: &[Arc<Token>]) {
        let now = Instant::now();
        self.pause = match self.last {
            Some(last) if now.duration_since(last) < FORGIVEN => {
                (self.pause * 2).min(LONGEST_PAUSE_BESIDE_OTHERS)
            }
            _ => FIRST_PAUSE,
        };
        self.last = Some(now);
        if !self.drain(tokens) {
            return;
        }
        self.finalise();
        let again = self.initialisation > 0;
        let outcome = self.initialise();
        tokens.iter().for_each(|token| token.answer());
        match outcome {
            Ok(()) => {
                self.failure = None;
                let mut state = lock(&self.module.state);
                state.initialised = true;
                if again {
                    state.recoveries += 1;
                }
                drop(state);
                info!(module = %self.module.path().display(), again, "PKCS#11 module initialised");
                tokens.iter().for_each(|token| self.attend(token));
            }
            Err(error) => {
                lock(&self.module.state).initialised = false;
                tokens.iter().for_each(|token| token.fail(&error));
                self.failure = Some(error);
            }
        }
    }

    /// Waits until no call is under way: first at the tokens that failed, and only if that succeeds
    /// at the others.
    fn drain(&self, tokens: &[Arc<Token>]) -> bool {
        let deadline = Instant::now() + self.module.settings.wait;
        let (working, failed): (Vec<_>, Vec<_>) = tokens.iter().partition(|token| token.works());
        for tokens in [failed, working] {
            tokens.iter().for_each(|token| token.pause());
            let (drained, stuck): (Vec<_>, Vec<_>) = tokens
                .into_iter()
                .partition(|token| token.drained(deadline));
            if !stuck.is_empty() {
                stuck
                    .iter()
                    .for_each(|token| token.fail(&TokenError::Hangs));
                // Those that were sent away for nothing come back.
                let paused = drained
                    .iter()
                    .filter(|token| token.need() == Need::Sessions);
                paused.for_each(|token| self.attend(token));
                return false;
            }
        }
        true
    }

    fn finalise(&mut self) {
        let initialised = std::mem::take(&mut self.initialised);
        let library = self.library.as_ref().filter(|_| initialised);
        if let Some(Err(error)) = library.map(|library| library.clone().finalize()) {
            debug!(%error, "a PKCS#11 module does not finalise");
        }
    }

    fn initialise(&mut self) -> Result<(), TokenError> {
        let path = self.module.path().to_owned();
        let library = match &self.library {
            Some(library) => library.clone(),
            None => Pkcs11::new(&path).map_err(|error| TokenError::ModuleNotLoadable {
                path: path.clone(),
                reason: error.to_string(),
            })?,
        };
        let locking = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        self.library = Some(library.clone());
        match library.initialize(locking) {
            // A failed C_Finalize leaves it so.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {
                self.initialised = true;
                self.initialisation += 1;
                Ok(())
            }
            Err(error) => Err(TokenError::ModuleFailed {
                path,
                code: Code::from(&error),
            }),
        }
    }

    /// Brings sessions to one token, or opens its breaker.
    fn attend(&self, token: &Arc<Token>) {
        let mut report = Report::default();
        let outcome = self.token_sessions(token, &mut report);
        token.note(report);
        if let Err(error) = outcome.and_then(|token_sessions| token.serve(token_sessions)) {
            token.fail(&error);
        }
    }

    /// Logged-in sessions of a token that works.
    fn token_sessions(
        &self,
        token: &Token,
        report: &mut Report,
    ) -> Result<Vec<TokenSession>, TokenError> {
        let Some(context) = &self.library else {
            return Err(TokenError::NoModule);
        };
        let present = search::tokens(context).map_err(|error| lost(&error))?;
        report.module = Some(self.module_finding(context, present.len()));
        let found = token.selector.find(present)?;
        report.token = Some(TokenFinding {
            label: plain(found.info.label()).to_owned(),
            model: plain(found.info.model()).to_owned(),
            serial: plain(found.info.serial_number()).to_owned(),
            slot: found.slot.id(),
            pin_count_low: found.info.user_pin_count_low() || found.info.user_pin_final_try(),
        });
        let mut pin = None;
        if found.info.login_required() || token.pin_source.is_some() {
            let source = token.pin_source.clone().ok_or(PinError::NoSource)?;
            pin = Some(Pin::read(&source)?);
            report.pin = Some(PinFinding { source });
        }
        let first = open_session(context, &found)?;
        if let Some(pin) = pin {
            log_in(token, &first, pin)?;
        }
        report.logged_in = true;
        let mut token_sessions = vec![self.token_session(context, &found, first)];
        while token_sessions.len() < self.module.settings.sessions {
            match open_session(context, &found) {
                Ok(session) => token_sessions.push(self.token_session(context, &found, session)),
                Err(error) => {
                    let opened = token_sessions.len();
                    warn!(token = %token.selector, opened, %error, "fewer sessions than configured");
                    break;
                }
            }
        }
        if let (Some(place), Some(token_session)) = (token.probe(), token_sessions.first_mut()) {
            match place.probe(token_session) {
                // The token works; that key was removed or replaced.
                Err(error) if error.stage() == KEY_STAGE => {}
                outcome => outcome?,
            }
        }
        Ok(token_sessions)
    }

    fn token_session(
        &self,
        context: &Pkcs11,
        found: &PresentToken,
        session: Session,
    ) -> TokenSession {
        TokenSession {
            context: context.clone(),
            slot: found.slot,
            session,
            initialisation: self.initialisation,
        }
    }

    fn module_finding(&self, context: &Pkcs11, tokens: usize) -> ModuleFinding {
        let information = context.get_library_info();
        let description = information.map(|information| {
            let version = information.library_version();
            let name = information.library_description().trim().to_owned();
            format!("{name} {version}")
        });
        ModuleFinding {
            path: self.module.path().to_owned(),
            description: description.unwrap_or_default(),
            tokens,
        }
    }

    fn close(&mut self) {
        let tokens = self.module.tokens();
        tokens
            .iter()
            .for_each(|token| token.fail(&TokenError::Closing));
        let deadline = Instant::now() + self.module.settings.wait;
        if tokens.iter().all(|token| token.drained(deadline)) {
            self.finalise();
        }
        lock(&self.module.state).initialised = false;
    }
}

fn longest_pause(tokens: &[Arc<Token>]) -> Duration {
    let beside_others = tokens.iter().any(|token| token.works());
    let lately = tokens.iter().any(|token| token.was_lost_lately());
    if beside_others && !lately {
        LONGEST_PAUSE_BESIDE_OTHERS
    } else {
        LONGEST_PAUSE
    }
}

fn open_session(context: &Pkcs11, found: &PresentToken) -> Result<Session, TokenError> {
    let session = context.open_ro_session(found.slot);
    session.map_err(|error| TokenError::NoSession {
        code: Code::from(&error),
    })
}

/// Logs in, unless that PIN was refused before: a token counts wrong ones and locks itself.
fn log_in(token: &Token, session: &Session, pin: Pin) -> Result<(), TokenError> {
    if let Some(error) = token.refused(&pin) {
        return Err(error);
    }
    match session.login(UserType::User, Some(&pin.for_login())) {
        // Login is for all sessions of a process with a token.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(error) if class_of(&error) == ErrorClass::Pin => {
            let error = TokenError::PinRefused {
                source_of_pin: pin.source.clone(),
                code: Code::from(&error),
                worked_before: token.worked_before(),
            };
            token.refuse(pin, &error);
            Err(error)
        }
        Err(error) => Err(lost(&error)),
    }
}
