//! What pages are made of. Links and forms are made here only, from a [`Path`].

use std::fmt::Display;

use hgs_admin::AdminError;
use hgs_pki::{Seconds, Time};
use maud::{Markup, html};

use crate::Path;
use crate::acts::Entered;

/// Octets of a condition that is shown on one line.
const SHORT_CONDITION: usize = 24;
/// Digits by which a digest is told from others in a list.
const SHORT_DIGEST: usize = 16;

/// How something is: it is said in words, and shown by a colour beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Good,
    Attention,
    Bad,
    Neutral,
}

pub(crate) fn condition(condition: Condition, text: &str) -> Markup {
    // A few words stand on one line.
    let is_short = text.len() <= SHORT_CONDITION;
    html! { span.condition.(condition.class()).word[is_short] { (text) } }
}

impl Condition {
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Attention => "attention",
            Self::Bad => "bad",
            Self::Neutral => "neutral",
        }
    }
}

/// A link, or the text alone where there is no path.
pub(crate) fn link(path: Option<&Path>, text: &str) -> Markup {
    match path {
        Some(path) => html! { a href=(path) { (text) } },
        None => html! { (text) },
    }
}

/// A link of the list of screens.
pub(crate) fn menu_link(path: &Path, text: &str, is_here: bool) -> Markup {
    html! { a href=(path) aria-current=[is_here.then_some("page")] { (text) } }
}

/// A link to an act, which the script opens as a dialog.
pub(crate) fn act_link(path: Option<&Path>, text: &str) -> Markup {
    match path {
        Some(path) => html! { a.button href=(path) data-dialog { (text) } },
        None => html! {},
    }
}

/// A link that leads on to something larger than another screen.
pub(crate) fn button_link(path: &Path, text: &str) -> Markup {
    html! { a.button href=(path) { (text) } }
}

/// A form that is sent to `path` by a button.
pub(crate) fn form(path: &Path, button: Button<'_>, fields: &Markup) -> Markup {
    html! {
        form method="post" action=(path) {
            (fields)
            p.buttons {
                button type="submit" class=(if button.is_dangerous { "dangerous" } else { "main" }) { (button.text) }
                @if let Some(back) = button.back { " " a.cancel href=(back) { "Cancel" } }
            }
        }
    }
}

/// A form whose fields are the query of the page at `path`. It changes nothing.
pub(crate) fn search(path: &Path, button: &str, fields: &Markup) -> Markup {
    html! {
        form method="get" action=(path) role="search" {
            (fields)
            p.buttons { button type="submit" class="main" { (button) } }
        }
    }
}

/// The button of a form.
pub(crate) struct Button<'b> {
    pub(crate) text: &'b str,
    pub(crate) is_dangerous: bool,
    /// Where the form is left without doing it.
    pub(crate) back: Option<&'b Path>,
}

/// A field of a form. It may be left empty unless it is said to be required.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'f> {
    name: &'static str,
    label: &'static str,
    help: &'static str,
    value: &'f str,
    is_required: bool,
}

impl<'f> Field<'f> {
    pub(crate) const fn new(name: &'static str, label: &'static str, help: &'static str) -> Self {
        Self {
            name,
            label,
            help,
            value: "",
            is_required: false,
        }
    }

    /// The name of what is made.
    pub(crate) fn name(entered: &'f Entered) -> Self {
        let help = "Letters, digits, hyphens, dots and underscores.";
        Self::new("name", "Name", help).entered(entered).required()
    }

    /// With what was entered there before.
    pub(crate) fn entered(self, entered: &'f Entered) -> Self {
        self.value(entered.field(self.name))
    }

    pub(crate) const fn value(self, value: &'f str) -> Self {
        Self { value, ..self }
    }

    pub(crate) const fn required(self) -> Self {
        self.required_if(true)
    }

    pub(crate) const fn required_if(self, is_required: bool) -> Self {
        Self {
            is_required,
            ..self
        }
    }

    pub(crate) fn line(&self) -> Markup {
        let help = format!("{}-help", self.name);
        html! {
            p.field {
                label for=(self.name) { (self.label) }
                span.help id=(help) { (self.help) }
                input type="text" id=(self.name) name=(self.name) value=(self.value) aria-describedby=(help)
                    required[self.is_required] autocomplete="off" spellcheck="false" maxlength="1024";
            }
        }
    }

    pub(crate) fn lines(&self) -> Markup {
        let help = format!("{}-help", self.name);
        html! {
            p.field {
                label for=(self.name) { (self.label) }
                span.help id=(help) { (self.help) }
                textarea id=(self.name) name=(self.name) rows="8" aria-describedby=(help)
                    required[self.is_required] autocomplete="off" spellcheck="false" {
                    // A browser drops the first line feed of a text area.
                    "\n" (self.value)
                }
            }
        }
    }

    pub(crate) fn check_box(&self) -> Markup {
        html! {
            p.field.choice {
                input type="checkbox" id=(self.name) name=(self.name) value="yes" checked[self.value == "yes"];
                label for=(self.name) { (self.label) }
                span.help { (self.help) }
            }
        }
    }
}

/// A choice of one of several, each with what it is sent as and what it is called.
pub(crate) fn choice(
    name: &'static str,
    label: &str,
    value: &str,
    options: &[(&str, &str)],
) -> Markup {
    html! {
        p.field {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                @for (sent, said) in options {
                    option value=(sent) selected[*sent == value] { (said) }
                }
            }
        }
    }
}

/// What a form sends along and nobody enters, such as the state that its page has shown.
pub(crate) fn hidden(name: &'static str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// A list of names and what belongs to each.
pub(crate) fn facts(facts: impl IntoIterator<Item = (&'static str, Markup)>) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A table. Cells that a row does not have are empty. On narrow screens each row becomes a card with its headings.
pub(crate) fn table(caption: &str, headings: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        table {
            caption { (caption) }
            thead { tr { @for heading in headings { th scope="col" { (heading) } } } }
            tbody {
                @for row in rows {
                    tr {
                        @for (index, heading) in headings.iter().enumerate() {
                            @let cell = row.get(index);
                            @if index == 0 {
                                th scope="row" data-heading=(heading) { @if let Some(cell) = cell { (cell) } }
                            } @else {
                                td data-heading=(heading) { @if let Some(cell) = cell { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Commands that are to be run elsewhere, with a button that copies them where there is a script. `id` is unique in the page.
pub(crate) fn commands(id: &str, commands: &str) -> Markup {
    html! {
        div.commands {
            pre tabindex="0" { code id=(id) { (commands) } }
            button type="button" data-copy=(id) hidden { "Copy" span.only-read { " these commands" } }
        }
    }
}

/// A text that is long and has no places to break, such as a digest.
pub(crate) fn digest(text: &str) -> Markup {
    html! { code.digest { (text) } }
}

/// The beginning of a digest, for lists.
pub(crate) fn beginning(digest: &str) -> &str {
    digest.get(..SHORT_DIGEST).unwrap_or(digest)
}

/// A sentence whose digests are shown by their beginnings.
pub(crate) fn in_short(sentence: &str) -> String {
    let is_digit = |one: char| one.is_ascii_hexdigit();
    let mut rest = sentence;
    let mut said = String::new();
    while let Some(start) = rest.find(is_digit) {
        let (before, from) = rest.split_at(start);
        let length = from.find(|one| !is_digit(one)).unwrap_or(from.len());
        let (digits, after) = from.split_at(length);
        said.push_str(before);
        match digits.len() > 2 * SHORT_DIGEST {
            true => said.extend([beginning(digits), "…"]),
            false => said.push_str(digits),
        }
        rest = after;
    }
    said.push_str(rest);
    said
}

/// One of the words that are known here, which are short: it is not broken, even in a narrow column.
pub(crate) fn word(word: impl Display) -> Markup {
    html! { span.word { (maud::display(word)) } }
}

pub(crate) fn text(text: impl Display) -> Markup {
    html! { (maud::display(text)) }
}

pub(crate) fn or_none(value: Option<&str>) -> Markup {
    html! { @match value { Some(value) => (value), None => span.none { "none" } } }
}

/// A time, and how far it is from now.
pub(crate) fn time(text: &str, now: Time) -> Markup {
    let Ok(time) = text.parse::<Time>() else {
        return html! { (text) };
    };
    let shown = text.replace('T', " ").replace('Z', " UTC");
    html! { time.word datetime=(text) { (shown) } " " span.word { "(" (distance(time, now)) ")" } }
}

const DAY: u64 = 86_400;
/// A year of the calendar, on average.
const YEAR: u64 = 31_556_952;
const TWO_YEARS: u64 = 2 * YEAR;

/// How far a time is from now, in its largest unit.
fn distance(time: Time, now: Time) -> String {
    let said = |seconds: Seconds| {
        let (count, unit) = match seconds.get() {
            seconds @ 0..60 => (seconds, "second"),
            seconds @ 60..3600 => (seconds / 60, "minute"),
            seconds @ 3600..DAY => (seconds / 3600, "hour"),
            seconds @ DAY..TWO_YEARS => (seconds / DAY, "day"),
            seconds => (seconds / YEAR, "year"),
        };
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {unit}{plural}")
    };
    match (time.since(now), now.since(time)) {
        (Some(left), _) if left.get() > 0 => format!("in {}", said(left)),
        (_, Some(past)) if past.get() > 0 => format!("{} ago", said(past)),
        _ => "now".to_owned(),
    }
}

/// That something was not done, why, and what to do about it.
pub(crate) fn error(error: &AdminError) -> Markup {
    failure("Nothing was changed", error)
}

/// That something was not done, in words of its own, why, and what to do about it.
pub(crate) fn failure(said: &str, error: &AdminError) -> Markup {
    html! {
        div.error role="alert" {
            p { strong { (said) ": " } (error.message) "." }
            @if let Some(remedy) = &error.remedy { p { "What to do: " (remedy) "." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_in_a_sentence_are_shortened_and_nothing_else_is() {
        let digest = "5f".repeat(32);
        let said = in_short(&format!(
            "in 1 place: PCR 4, found {digest} (image), expected {digest}"
        ));
        assert_eq!(
            said,
            "in 1 place: PCR 4, found 5f5f5f5f5f5f5f5f… (image), expected 5f5f5f5f5f5f5f5f…"
        );
        for short in ["", "é", "cafe", "host cc78a3dfc6824c0c3cf18b31595d941e"] {
            assert_eq!(in_short(short), short);
        }
    }

    #[test]
    fn distances_are_said_in_their_largest_unit() {
        let now = Time::from_unix(1_800_000_000);
        for (offset, said) in [
            (0, "now"),
            (1, "in 1 second"),
            (-59, "59 seconds ago"),
            (3600, "in 1 hour"),
            (-86_400 * 30, "30 days ago"),
            (86_400 * 700, "in 700 days"),
            (86_400 * 3651, "in 9 years"),
            (86_400 * 3653, "in 10 years"),
        ] {
            assert_eq!(distance(Time::from_unix(1_800_000_000 + offset), now), said);
        }
    }
}
