//! The tree under another master key.

use rusqlite::Connection;

use super::{Node, select};
use crate::StoreError;
use crate::record::{Keys, Sum};

/// Tags every node anew, at most `batch` at a time; their sum.
pub(crate) fn rotate(
    connection: &Connection,
    old: &Keys,
    new: &Keys,
    batch: u32,
) -> Result<Sum, StoreError> {
    let mut sum = Sum::EMPTY;
    let mut last = i64::MIN;
    let mut select = connection.prepare(select!("WHERE id > ?1 ORDER BY id LIMIT ?2"))?;
    let mut update = connection.prepare("UPDATE lineage SET tag = ?2 WHERE id = ?1")?;
    loop {
        let mut rows = select.query((last, batch))?;
        let mut nodes = Vec::new();
        while let Some(row) = rows.next()? {
            nodes.push(Node::read(row, old)?.0);
        }
        drop(rows);
        let Some(end) = nodes.last() else {
            return Ok(sum);
        };
        last = end.id.0;
        for node in nodes {
            let tag = node.tag(new);
            update.execute((node.id.0, &tag))?;
            sum.add(&new.term(&tag));
        }
    }
}
