//! Acts as somebody does them who has a keyboard and no mouse.

use super::acts::Deed;
use super::browser::{Browser, ENTER, ESCAPE, SPACE, Script, TAB};
use super::pages::{Axe, assert_quiet};

/// No page has as many places to stop at.
const STOPS: usize = 300;

/// Where the focus is: whether one can see it, and whether it is in a dialog.
const FOCUS: &str = "
    const active = document.activeElement;
    const style = getComputedStyle(active);
    const box = active.getBoundingClientRect();
    return {
        is: active.localName,
        kind: active.type ?? '',
        name: active.name ?? '',
        href: active.getAttribute('href') ?? '',
        text: active.innerText ?? '',
        value: active.value ?? '',
        required: active.required ?? false,
        dialog: active.closest('dialog') !== null,
        content: active.closest('main, dialog') !== null,
        seen: style.outlineStyle !== 'none' && box.width > 0 && box.right > 0 && box.left < innerWidth,
    };";

/// What the keyboard is at.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Focus {
    is: String,
    kind: String,
    name: String,
    href: String,
    pub(crate) text: String,
    value: String,
    required: bool,
    dialog: bool,
    content: bool,
    seen: bool,
}

impl Focus {
    #[track_caller]
    fn of(browser: &Browser) -> Self {
        serde_json::from_value(browser.run(FOCUS)).unwrap()
    }

    pub(crate) fn is_link_to(&self, path: &str) -> bool {
        self.is == "a" && self.href == path
    }

    pub(crate) fn is_button(&self, text: &str) -> bool {
        self.is == "button" && self.text.starts_with(text)
    }

    pub(crate) fn is_field_of(&self, name: &str) -> bool {
        self.is_field() && self.name == name
    }

    fn is_field(&self) -> bool {
        matches!(self.is.as_str(), "input" | "textarea" | "select")
    }

    /// The button that sends a form of the content, not the one in the frame of each page.
    fn sends(&self) -> bool {
        self.is == "button" && self.kind == "submit" && self.content
    }
}

/// Presses Tab until the focus is at something that is `wanted`; it can be seen at each stop on the way.
#[track_caller]
pub(crate) fn tab_to(browser: &Browser, what: &str, wanted: impl Fn(&Focus) -> bool) -> Focus {
    let mut stops = Vec::new();
    while stops.len() < STOPS {
        browser.press(TAB);
        let focus = Focus::of(browser);
        assert!(
            focus.seen || focus.is == "body",
            "nobody sees where the keyboard is: {focus:?}"
        );
        if wanted(&focus) {
            return focus;
        }
        stops.push(format!("{} {}{}", focus.is, focus.name, focus.href));
    }
    stops.dedup();
    panic!(
        "the keyboard does not get to {what} on {}: {stops:#?}",
        browser.place()
    );
}

/// Does an act from the page with a link to it, and says what came of it. Where there is a script it is done in a dialog,
/// which is left once before.
#[track_caller]
pub(crate) fn perform(
    browser: &Browser,
    origin: &str,
    deed: &Deed,
    (script, axe): (Script, Option<&Axe<'_>>),
) -> String {
    if browser.place() != deed.from {
        browser.open(&format!("{origin}{}", deed.from));
    }
    skip(browser);
    tab_to(browser, &deed.path, |focus| focus.is_link_to(&deed.path));
    browser.press(ENTER);
    match script {
        Script::On => {
            assert_dialog(browser, &deed.path, axe);
            browser.press(ENTER);
            browser.until("the dialog is open again", OPEN);
        }
        Script::Off => browser.until(
            "the page of the act is there",
            &format!(
                "return location.pathname + location.search === '{}'",
                deed.path
            ),
        ),
    }
    let mut outcome = send(browser, deed, script);
    if deed.is_shown_first {
        assert!(
            browser.run(SHOWN_FIRST) == true,
            "{}, which says {outcome}",
            deed.path
        );
        // A refusal is an answer with a status that browsers log.
        let complaints = browser.complaints();
        assert!(
            complaints.iter().all(|one| one.contains("409")),
            "{}: {complaints:#?}",
            deed.path
        );
        outcome = send(browser, deed, script);
    }
    assert_quiet(browser, &format!("{}, which says {outcome}", deed.path));
    outcome
}

/// Whether a dialog with a form is open.
const OPEN: &str = "return document.querySelector('dialog[open] form') !== null";

/// Whether a form is shown again, with what it would do to hosts.
const SHOWN_FIRST: &str = "
    return document.querySelector('main .effect') !== null && document.querySelector('main form') !== null;";

/// What the page says of an act that was done, or was not, once it is another page than the one with the form.
const OUTCOME: &str = "
    const said = document.querySelector('main > .notice strong, main .error');
    return window.wasSent || document.readyState !== 'complete' ? null : said?.innerText ?? null;";

/// Fills the form, sends it, and says what came of it.
#[track_caller]
fn send(browser: &Browser, deed: &Deed, script: Script) -> String {
    fill(browser, deed);
    browser.run("window.wasSent = true");
    // Buttons take both keys.
    browser.press(if script == Script::On { ENTER } else { SPACE });
    browser.until(&format!("it is said what became of {}", deed.path), OUTCOME);
    browser.run(OUTCOME).as_str().unwrap().to_owned()
}

/// The focus goes into the dialog and stays there, Escape closes it, and the focus is where it was.
#[track_caller]
fn assert_dialog(browser: &Browser, path: &str, axe: Option<&Axe<'_>>) {
    browser.until("a dialog opens", OPEN);
    let focus = Focus::of(browser);
    assert!(focus.dialog, "{path}: {focus:?}");
    if let Some(axe) = axe {
        axe.assert_kept(&format!("the dialog of {path}"));
    }
    assert_quiet(browser, path);
    browser.press(ESCAPE);
    browser.until(
        "Escape closes the dialog",
        "return document.querySelector('dialog') === null",
    );
    let focus = Focus::of(browser);
    assert!(focus.is_link_to(path), "{path}: {focus:?}");
}

/// Fills the fields in the order of the keyboard, and stops at the button that sends them.
#[track_caller]
fn fill(browser: &Browser, deed: &Deed) {
    let mut focus = Focus::of(browser);
    for _ in 0..STOPS {
        if focus.sends() {
            return;
        }
        enter(browser, deed, &focus);
        browser.press(TAB);
        focus = Focus::of(browser);
    }
    panic!(
        "{}: the keyboard does not get to a button that sends the form",
        deed.path
    );
}

/// Enters into a field what the act needs there, if it is not there yet.
#[track_caller]
fn enter(browser: &Browser, deed: &Deed, focus: &Focus) {
    let mut entries = deed.entries.iter();
    let Some((_, text)) = entries.find(|(name, _)| focus.is_field_of(name)) else {
        assert!(
            !focus.required || !focus.value.is_empty(),
            "{}: {} must be filled in, and the act does not say with what",
            deed.path,
            focus.name
        );
        return;
    };
    match (focus.kind.as_str(), focus.value.as_str()) {
        ("checkbox", _) => browser.press(SPACE),
        ("textarea", "") => browser.paste(text),
        ("textarea", _) => {}
        (_, value) if value == text => {}
        (_, "") => browser.type_in(text),
        ("select-one", _) => browser.type_in(text),
        _ => browser.type_over(text),
    }
}

/// Leaves the frame of a page by its first link.
#[track_caller]
pub(crate) fn skip(browser: &Browser) {
    browser.press(TAB);
    let focus = Focus::of(browser);
    assert!(focus.is_link_to("#content") && focus.seen, "{focus:?}");
    browser.press(ENTER);
    browser.until(
        "the content has the focus",
        "return document.activeElement.id === 'content'",
    );
}
