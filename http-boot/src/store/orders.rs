//! The table of orders: see [`crate::orders`], which keeps a copy in memory.

use anyhow::{Context, Result};
use rusqlite::{Connection, params};

use super::from_millis;
use crate::devices::{Moment, Serial};
use crate::orders::{Once, Order, Slot, Standing};

/// Writes what counts until changed.
///
/// # Errors
/// The database's.
pub fn set_standing(connection: &Connection, serial: &Serial, order: &Order<Standing>) -> Result<()> {
    let content = serde_json::to_string(&order.what)?;
    set(connection, serial, Slot::Standing, &content, &order.who, order.made, (None, None))
}

/// Writes what counts for the next boot.
///
/// # Errors
/// The database's.
pub fn set_once(connection: &Connection, serial: &Serial, order: &Order<Once>) -> Result<()> {
    let boots = (order.what.after_boot.as_deref(), order.what.used_by.as_deref());
    set(connection, serial, Slot::Once, "rescue", &order.who, order.made, boots)
}

fn set(
    connection: &Connection,
    serial: &Serial,
    slot: Slot,
    content: &str,
    who: &str,
    made: Moment,
    (after_boot, used_by): (Option<&str>, Option<&str>),
) -> Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO orders (serial, slot, content, who, made, after_boot, used_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![serial.as_str(), slot.as_str(), content, who, super::to_millis(made.0), after_boot, used_by],
    )?;
    Ok(())
}

/// Takes an order off.
///
/// # Errors
/// The database's.
pub fn clear(connection: &Connection, serial: &Serial, slot: Slot) -> Result<()> {
    connection.execute(
        "DELETE FROM orders WHERE serial = ?1 AND slot = ?2",
        params![serial.as_str(), slot.as_str()],
    )?;
    Ok(())
}

/// One row.
#[derive(Debug)]
pub enum Row {
    /// Until changed.
    Standing(Order<Standing>),
    /// For the next boot.
    Once(Order<Once>),
}

/// All orders.
///
/// # Errors
/// The database's, or when a row is none of ours.
pub fn all(connection: &Connection) -> Result<Vec<(Serial, Row)>> {
    let mut statement =
        connection.prepare("SELECT serial, slot, content, who, made, after_boot, used_by FROM orders")?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let serial: String = row.get(0)?;
        let (slot, content): (String, String) = (row.get(1)?, row.get(2)?);
        let (who, made) = (row.get(3)?, Moment(from_millis(row.get(4)?)));
        let order = if slot == Slot::Once.as_str() {
            Row::Once(Order { what: Once { after_boot: row.get(5)?, used_by: row.get(6)? }, who, made })
        } else {
            let what = serde_json::from_str(&content).with_context(|| {
                format!("reading the order for {serial}, which is none of this http-boot")
            })?;
            Row::Standing(Order { what, who, made })
        };
        all.push((serial.parse()?, order));
    }
    Ok(all)
}
