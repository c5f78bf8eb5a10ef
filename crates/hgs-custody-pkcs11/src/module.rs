//! A module, and the keeper that looks after it.
//!
//! Only the keeper initialises and finalises. `C_Finalize` with a call under way is undefined, so
//! it first sends all workers away and waits for them; one that does not come back keeps the module
//! as it is. After a failure there is no other way: a module that lost a token does not find it
//! again before it is initialised anew, and that ends the sessions of its other tokens too.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use hgs_custody::{PinSource, Pkcs11Uri};
use tracing::{debug, info, warn};

use crate::bell::{Bell, Woken, lock};
use crate::pin::Pin;
use crate::search::{self, Found, Selector};
use crate::session::{Meaning, Seat, lost, meaning};
use crate::token::{Need, Report, Token};
use crate::{
    Code, ModuleFinding, ModuleSettings, ModuleStatus, PinError, PinFinding, TokenError,
    TokenFinding,
};

/// Pause before the second initialisation; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause while no token of the module works.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause while another token of the module works, which each initialisation interrupts.
const LONGEST_PAUSE_BESIDE_OTHERS: Duration = Duration::from_secs(60);
/// After so long without a failure, the pauses begin anew.
const FORGIVEN: Duration = Duration::from_secs(120);
/// How often the source of a PIN that can't be used is looked at.
const PIN_LOOK: Duration = Duration::from_secs(1);

/// A module and the tokens in it that URIs name.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) settings: ModuleSettings,
    tokens: Mutex<Vec<Arc<Token>>>,
    bell: Arc<Bell>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: bool,
    initialised: bool,
    recoveries: u64,
}

impl Module {
    pub(crate) fn new(settings: ModuleSettings) -> Self {
        Self {
            settings,
            tokens: Mutex::new(Vec::new()),
            bell: Arc::new(Bell::default()),
            state: Mutex::new(State::default()),
        }
    }

    /// The token of a URI. It is not looked for before it has work.
    pub(crate) fn token(
        self: &Arc<Self>,
        uri: &Pkcs11Uri,
        pin_source: Option<&PinSource>,
    ) -> Arc<Token> {
        self.keep();
        let selector = Selector::of(uri);
        let pin_source = uri.pin_source.as_ref().or(pin_source);
        let mut tokens = lock(&self.tokens);
        let known = tokens
            .iter()
            .find(|token| token.selector == selector && token.pin_source.as_ref() == pin_source);
        if let Some(token) = known {
            return Arc::clone(token);
        }
        let bell = Arc::clone(&self.bell);
        let token = Token::new(selector, pin_source.cloned(), self.settings.wait, bell);
        let token = Arc::new(token);
        tokens.push(Arc::clone(&token));
        token
    }

    /// Sets a keeper to the module, if it has none.
    fn keep(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.kept {
            return;
        }
        let keeper = Keeper::of(self);
        let started = thread::Builder::new()
            .name("pkcs11-keeper".to_owned())
            .spawn(move || keeper.keep());
        match started {
            Ok(_) => state.kept = true,
            // Jobs wait in vain and say so; the next key tries again.
            Err(error) => warn!(%error, "no thread for a PKCS#11 module"),
        }
    }

    pub(crate) fn status(&self) -> ModuleStatus {
        let tokens = self.wanted();
        let state = lock(&self.state);
        ModuleStatus {
            path: self.settings.path.clone(),
            initialised: state.initialised,
            recoveries: state.recoveries,
            tokens: tokens.iter().map(|token| token.status()).collect(),
        }
    }

    pub(crate) fn retry(&self) {
        self.bell.ring_at_once();
    }

    /// Sends everybody home and waits, for a bounded time, until the module is finalised.
    pub(crate) fn close(&self) {
        if lock(&self.state).kept {
            self.bell.ring_for_the_end();
            let bound = self.settings.wait + Duration::from_secs(1);
            self.bell.wait_for_the_end(Instant::now() + bound);
        }
    }

    /// The tokens that had work. Those that nobody has a key in, and that never worked, are
    /// forgotten: an operator's slip is no outage.
    fn wanted(&self) -> Vec<Arc<Token>> {
        let mut tokens = lock(&self.tokens);
        // Keys, jobs and workers hold their token too.
        tokens.retain(|token| Arc::strong_count(token) > 1 || !token.is_done_with());
        let wanted = tokens.iter().filter(|token| token.is_wanted());
        wanted.cloned().collect()
    }

    fn path(&self) -> &Path {
        &self.settings.path
    }
}

/// The one thread that initialises a module, logs in, and does so again after failures.
struct Keeper {
    module: Arc<Module>,
    /// The shared object stays loaded: modules are not made for being unloaded.
    library: Option<Pkcs11>,
    initialised: bool,
    life: u64,
    pause: Duration,
    last: Option<Instant>,
    /// Why the module is not initialised.
    failure: Option<TokenError>,
}

impl Keeper {
    fn of(module: &Arc<Module>) -> Self {
        Self {
            module: Arc::clone(module),
            library: None,
            initialised: false,
            life: 0,
            pause: FIRST_PAUSE,
            last: None,
            failure: None,
        }
    }

    fn keep(mut self) {
        let mut at_once = false;
        loop {
            let look = self.tend(at_once);
            match self.module.bell.wait(look) {
                Woken::Closing => break,
                woken => at_once = woken == Woken::AtOnce,
            }
        }
        self.close();
        self.module.bell.say_ended();
    }

    /// Does what there is to do, and says when to look again unless somebody rings before.
    fn tend(&mut self, at_once: bool) -> Option<Instant> {
        let tokens = self.module.wanted();
        if at_once {
            tokens.iter().for_each(|token| token.forgive());
        }
        let needs: Vec<Need> = tokens.iter().map(|token| token.need()).collect();
        if needs.iter().all(|need| *need == Need::Nothing) {
            return None;
        }
        if self.initialised && !needs.contains(&Need::Initialisation) {
            self.bring_sessions(&tokens);
        } else if at_once || self.due().is_none_or(|due| due <= Instant::now()) {
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
            .then(|| self.due().unwrap_or_else(Instant::now));
        let pin = needs
            .contains(&Need::Pin)
            .then(|| Instant::now() + PIN_LOOK);
        [initialisation, pin].into_iter().flatten().min()
    }

    /// When the module may be initialised next.
    fn due(&self) -> Option<Instant> {
        Some(self.last? + self.pause)
    }

    fn note_initialisation(&mut self, tokens: &[Arc<Token>]) {
        let now = Instant::now();
        let others_work = tokens.iter().any(|token| token.works());
        let longest = match others_work {
            true => LONGEST_PAUSE_BESIDE_OTHERS,
            false => LONGEST_PAUSE,
        };
        self.pause = match self.last {
            Some(last) if now.duration_since(last) < FORGIVEN => (self.pause * 2).min(longest),
            _ => FIRST_PAUSE,
        };
        self.last = Some(now);
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
        self.note_initialisation(tokens);
        if !self.drain(tokens) {
            return;
        }
        self.finalise();
        let again = self.life > 0;
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
                self.life += 1;
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
        let outcome = self.seats(token, &mut report);
        token.note(report);
        if let Err(error) = outcome.and_then(|seats| token.serve(seats)) {
            token.fail(&error);
        }
    }

    /// Logged-in sessions of a token that works.
    fn seats(&self, token: &Token, report: &mut Report) -> Result<Vec<Seat>, TokenError> {
        let Some(context) = &self.library else {
            return Err(TokenError::NoModule);
        };
        let present = search::tokens(context).map_err(|error| lost(&error))?;
        report.module = Some(self.module_finding(context, present.len()));
        let found = token.selector.find(present)?;
        report.token = Some(token_finding(&found));
        let mut pin = None;
        if found.info.login_required() || token.pin_source.is_some() {
            let source = token.pin_source.as_ref().ok_or(PinError::NoSource)?;
            pin = Some(Pin::read(source)?);
            let source = source.clone();
            report.pin = Some(PinFinding { source });
        }
        let first = open_session(context, &found)?;
        if let Some(pin) = pin {
            log_in(token, &first, pin)?;
        }
        report.logged_in = true;
        let mut seats = vec![self.seat(context, &found, first)];
        while seats.len() < self.module.settings.sessions {
            match open_session(context, &found) {
                Ok(session) => seats.push(self.seat(context, &found, session)),
                Err(error) => {
                    let opened = seats.len();
                    warn!(token = %token.selector, opened, %error, "fewer sessions than configured");
                    break;
                }
            }
        }
        if let (Some(place), Some(seat)) = (token.probe(), seats.first_mut()) {
            match place.probe_at(seat) {
                // The token works, and somebody took that key away.
                Err(TokenError::KeyAbsent { .. } | TokenError::KeyAmbiguous { .. }) => {}
                Err(TokenError::OtherKey) => {}
                outcome => outcome?,
            }
        }
        Ok(seats)
    }

    fn seat(&self, context: &Pkcs11, found: &Found, session: Session) -> Seat {
        Seat {
            context: context.clone(),
            slot: found.slot,
            session,
            life: self.life,
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
        let tokens = lock(&self.module.tokens).clone();
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

fn open_session(context: &Pkcs11, found: &Found) -> Result<Session, TokenError> {
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
        Err(error) if meaning(&error) == Meaning::Pin => {
            let error = TokenError::PinRefused {
                source_of_pin: pin.source.clone(),
                code: Code::from(&error),
            };
            token.refuse(pin, &error);
            Err(error)
        }
        Err(error) => Err(lost(&error)),
    }
}

fn token_finding(found: &Found) -> TokenFinding {
    TokenFinding {
        label: found.info.label().to_owned(),
        model: found.info.model().to_owned(),
        serial: found.info.serial_number().to_owned(),
        slot: found.slot.id(),
        pin_count_low: found.info.user_pin_count_low() || found.info.user_pin_final_try(),
    }
}
