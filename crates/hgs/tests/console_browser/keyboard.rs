//! Acts as somebody does them who has a keyboard and no mouse.

use super::browser::{Browser, ENTER, ESCAPE, SPACE, Script, TAB};
use super::pages::{Axe, Found, Rules, assert_quiet};

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
        matches!(self.is.as_str(), "input" | "textarea")
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

/// What is entered into the fields of acts.
pub(crate) struct Entries<'e> {
    /// Act, field, and the text.
    pub(crate) texts: &'e [(&'e str, &'e str, String)],
    /// Acts that this guardian does. Others may be refused, and say why.
    pub(crate) done: &'e [&'e str],
}

impl Entries<'_> {
    fn of(&self, act: &str, field: &Focus) -> Option<&str> {
        let mut found = self.texts.iter();
        let found = found.find(|(of, name, _)| *of == act && *name == field.name);
        match found {
            Some((.., text)) => Some(text),
            // Acts that this test does not know yet.
            None if !field.required => None,
            None if field.kind == "number" => Some("1"),
            None => Some("unknown"),
        }
    }
}

/// Whether the page that had a link to an act has it still.
#[track_caller]
pub(crate) fn is_linked(browser: &Browser, origin: &str, act: &Found) -> bool {
    browser.open(&format!("{origin}{}", act.from));
    let script = "
        const links = [...document.querySelectorAll('a')];
        return links.some(link => link.getAttribute('href') === arguments[0]);";
    let is_linked = browser.run_with(script, &serde_json::json!([act.path])) == true;
    // The page itself may be gone.
    browser.complaints();
    is_linked
}

/// Does an act from the page with a link to it. Where there is a script it is done in a dialog, which is left once before.
#[track_caller]
pub(crate) fn perform(
    browser: &Browser,
    origin: &str,
    act: &Found,
    entries: &Entries<'_>,
    (script, axe): (Script, Option<&Axe>),
) {
    let name = act.route.name;
    browser.open(&format!("{origin}{}", act.from));
    tab_to(browser, &act.path, |focus| focus.is_link_to(&act.path));
    let is_dialog = browser.run("return 'dialog' in document.activeElement.dataset") == true;
    browser.press(ENTER);
    match (is_dialog, script) {
        (true, Script::On) => {
            assert_dialog(browser, act, axe);
            browser.press(ENTER);
            browser.until(
                "the dialog is open again",
                "return document.querySelector('dialog[open] form') !== null",
            );
        }
        _ => browser.until(
            "the page of the act is there",
            &format!(
                "return location.pathname + location.search === '{}'",
                act.path
            ),
        ),
    }
    fill(browser, name, entries);
    // Buttons take both keys.
    browser.press(if script == Script::On { ENTER } else { SPACE });
    browser.until(
        &format!("it is said what became of {name}"),
        "return document.querySelector('main > .notice, main .error') !== null",
    );
    let refused = browser.run("return document.querySelector('main .error')?.innerText ?? null");
    assert!(
        refused.is_null() || !entries.done.contains(&name),
        "{name} at {}: {refused}",
        act.path
    );
    // A refusal is an answer with a status that browsers log.
    let complaints = browser.complaints();
    assert!(
        complaints.is_empty() || !refused.is_null(),
        "{name}: {complaints:#?}"
    );
}

/// The focus goes into the dialog and stays there, Escape closes it, and the focus is where it was.
#[track_caller]
fn assert_dialog(browser: &Browser, act: &Found, axe: Option<&Axe>) {
    browser.until(
        "a dialog opens",
        "return document.querySelector('dialog[open] form') !== null",
    );
    assert!(
        Focus::of(browser).dialog,
        "{}: {:?}",
        act.path,
        Focus::of(browser)
    );
    if let Some(axe) = axe {
        axe.assert_kept(browser, &format!("the dialog of {}", act.path), Rules::All);
    }
    assert_quiet(browser, &act.path);
    browser.press(ESCAPE);
    browser.until(
        "Escape closes the dialog",
        "return document.querySelector('dialog') === null",
    );
    let focus = Focus::of(browser);
    assert!(focus.is_link_to(&act.path), "{}: {focus:?}", act.path);
}

/// Fills the fields in the order of the keyboard, and stops at the button that sends them.
#[track_caller]
fn fill(browser: &Browser, act: &str, entries: &Entries<'_>) {
    let mut focus = Focus::of(browser);
    for _ in 0..STOPS {
        if focus.sends() {
            return;
        }
        if focus.is_field()
            && let Some(text) = entries.of(act, &focus)
        {
            match &focus.kind[..] {
                "checkbox" | "radio" => browser.press(SPACE),
                _ if focus.value.is_empty() => browser.write(text),
                _ => {}
            }
        }
        browser.press(TAB);
        focus = Focus::of(browser);
    }
    panic!("{act}: the keyboard does not get to a button that sends the form");
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
