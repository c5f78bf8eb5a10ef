//! Opening a database and believing nothing in it before it is checked.

use std::cmp::Ordering;
use std::path::Path;

use crate::audit::Boundary;
use crate::audit_head::Head;
use crate::change::Record;
use crate::engine::{Engine, StoredRow, View, sum_of_lineage};
use crate::high_water_mark::HighWaterMark;
use crate::record::{Integrity, Keys, Sum};
use crate::rolled_back::RolledBack;
use crate::{Finding, OpenError, State, Tampered, audit, diagnosis};

/// Reads all that is kept and checks that it is as this service left it.
///
/// A state of generation 0 is one that was never initialised.
pub(crate) fn verify(view: &dyn View, keys: &Keys) -> Result<(State, Integrity), OpenError> {
    let missing = || Tampered::new("store", 1, Finding::Missing);
    let row = view.row()?.ok_or_else(missing)?;
    view.check_structure()?;
    let (state, records) = load(view, keys, &row)?;
    let integrity = Integrity {
        generation: row.generation,
        records,
        lineage: sum_of_lineage(view, keys)?,
        audit: audit::verify(view, &keys.audit, |_| Ok::<_, OpenError>(()))?,
    };
    if integrity.is_of(&row, keys) {
        return Ok((state, integrity));
    }
    // Every single record is authentic, and yet they are not the ones that belong together. The
    // audit log knows which those are.
    Err(diagnosis::find(view, keys, &row, &state, &integrity)?.into())
}

/// Reads and checks every record.
fn load(view: &dyn View, keys: &Keys, row: &StoredRow) -> Result<(State, Sum), OpenError> {
    let mut state = State::default();
    let mut sum = Sum::EMPTY;
    view.each_record(|row| -> Result<(), OpenError> {
        let (kind, tag) = row.verified(keys)?;
        let record = Record::from_text(kind, &row.value)
            .map_err(|_| Tampered::new(&row.kind, &row.name, Finding::Changed))?;
        sum.add(&keys.term(&tag));
        state.put(record, row.generation, tag);
        Ok(())
    })?;
    state.set_generation(row.generation);
    Ok((state, sum))
}

/// Compares the state with its high-water mark. A state that never had one gets its first.
pub(crate) fn compare(
    engine: &mut dyn Engine,
    keys: &Keys,
    integrity: &Integrity,
    file: &mut HighWaterMark,
    directory: &Path,
) -> Result<Option<RolledBack>, OpenError> {
    let view = engine.readers().snapshot()?;
    let had_one = view.has_mark()?;
    let state = integrity.mark().position();
    let (directory, path) = (directory.to_owned(), file.path().to_owned());
    let found = match file.newest() {
        // Nothing was ever acknowledged: what makes the state sets the mark too.
        _ if integrity.generation == 0 => None,
        None if had_one => Some(RolledBack::NoMark {
            directory,
            file: path,
            state,
        }),
        None => None,
        Some(newest) => {
            let mark = newest.position();
            if mark.sequence > state.sequence || mark.generation > state.generation {
                Some(RolledBack::Older {
                    directory,
                    file: path,
                    state,
                    mark,
                })
            } else if mark.sequence > 0 && !has_record(&*view, keys, &newest.audit)? {
                Some(RolledBack::OtherHistory {
                    directory,
                    file: path,
                    state,
                    mark,
                })
            } else {
                None
            }
        }
    };
    if !had_one && found.is_none() {
        // In this order: a mark that is expected must be there.
        if file.newest().is_none() {
            file.reset(None)?;
        }
        drop(view);
        engine.set_has_mark()?;
        engine.checkpoint()?;
    }
    Ok(found)
}

/// Whether the log has the record that a mark was made at. A node of a cluster that was away may have a copy by now whose log begins
/// behind that record, as the node that it came from has archived more: then the order of commits has led there, and it is not asked for
/// a record that the copy can't have.
fn has_record(view: &dyn View, keys: &Keys, mark: &Head) -> Result<bool, OpenError> {
    if let Some(row) = view.audit_row(mark.sequence)? {
        return Ok(row.tag == mark.tag);
    }
    let left = Boundary::of(view, &keys.audit)?.left;
    Ok(match left.sequence.cmp(&mark.sequence) {
        Ordering::Less => false,
        Ordering::Equal => left.tag == mark.tag,
        Ordering::Greater => view.position()?.is_some(),
    })
}
