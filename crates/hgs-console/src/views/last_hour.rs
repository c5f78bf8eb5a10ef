//! Releases and refusals of the last hour, as small plots.

use hgs_admin::types::{Action, AuditRecord, NamedAction, Outcome};
use hgs_pki::{Seconds, Time};
use maud::{Markup, html};

use super::counted;
use crate::elements::link;
use crate::routes::log::LOG;

/// How far back the plots go.
pub(crate) const SPAN: Seconds = Seconds::from_minutes(60);
/// Bars of a plot.
const BARS: usize = 12;
const BAR_SECONDS: u64 = SPAN.get() / BARS as u64;
const BAR_WIDTH: usize = 20;
const HEIGHT: u64 = 60;

/// How many there were, from an hour ago until now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LastHour {
    pub(crate) released: Bars,
    pub(crate) refused: Bars,
}

/// How many there were in each twelfth of the hour, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bars {
    counts: [u64; BARS],
    /// Whether there were more than were asked for, and so older ones are missing.
    is_cut: bool,
}

impl Bars {
    /// Counts the records of the hour that ends now. `is_cut` says that there are older ones in it.
    pub(crate) fn of(records: &[AuditRecord], is_cut: bool, now: Time) -> Self {
        let mut bars = Self {
            is_cut,
            ..Self::default()
        };
        for record in records {
            let Ok(time) = record.time.parse::<Time>() else {
                continue;
            };
            // The clock of another node may be ahead.
            let age = now.since(time).map_or(0, Seconds::get);
            let back = usize::try_from(age / BAR_SECONDS).unwrap_or(BARS);
            if let Some(bar) = (BARS - 1)
                .checked_sub(back)
                .and_then(|at| bars.counts.get_mut(at))
            {
                *bar = bar.saturating_add(record.count.unwrap_or(1));
            }
        }
        bars
    }

    fn total(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Whether a host was refused something, and not an administrator.
pub(crate) fn is_of_host(record: &AuditRecord) -> bool {
    record.outcome == Outcome::Refused
        && matches!(
            record.action,
            NamedAction::Known(Action::Attest | Action::Release)
        )
}

pub(crate) fn section(hour: &LastHour) -> Markup {
    html! {
        section aria-labelledby="hour" {
            h2 id="hour" { "The last hour" }
            div.plots {
                (plot("released", "release", &hour.released))
                (plot("refused", "refusal", &hour.refused))
            }
            p { (link(Some(&LOG.fixed_path()), "Open the log")) }
        }
    }
}

/// A plot, and in words what it shows.
fn plot(class: &str, noun: &str, bars: &Bars) -> Markup {
    let highest = bars.counts.iter().copied().max().unwrap_or(0).max(1);
    let counted = counted(bars.total(), noun);
    let said = match bars.is_cut {
        true => format!("more than {counted}"),
        false => counted,
    };
    let each = bars.counts.map(|count| count.to_string()).join(", ");
    let label = format!("{said}. Every five minutes, from an hour ago until now: {each}");
    let view = format!("0 0 {} {HEIGHT}", BARS * BAR_WIDTH);
    html! {
        figure.plot {
            figcaption { strong { (said) } @if bars.is_cut { ", of which the newest are shown" } }
            svg.(class) viewBox=(view) role="img" aria-label=(label) {
                @for (index, count) in bars.counts.iter().enumerate() {
                    // One is seen beside thousands.
                    @let height = count.saturating_mul(HEIGHT).div_ceil(highest);
                    rect x=(index * BAR_WIDTH) y=(HEIGHT - height) width=(BAR_WIDTH - 2) height=(height) {}
                }
            }
            // The label of the plot says it.
            div.ends.help aria-hidden="true" { span { "an hour ago" } span { "now" } }
        }
    }
}
