//! How a later file changes an earlier one (row DM41).

use toml::{Table, Value};

/// Puts `later` on top of `base`: scalars that are not zero win, arrays are united, tables are merged by key.
///
/// A later file therefore cannot set a switch back to false once an earlier one has set it.
pub(super) fn merge(base: &mut Table, later: Table) {
    for (key, value) in later {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (Some(Value::Array(below)), Value::Array(above)) => {
                for item in above {
                    if !below.contains(&item) {
                        below.push(item);
                    }
                }
            }
            (Some(present), value) if !is_zero(&value) => *present = value,
            (Some(_), _) => {}
            (None, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Puts `later` on top of the built-in defaults: whatever is written there wins, also zeros and empty arrays.
pub(super) fn overlay(base: &mut Table, later: Table) {
    for (key, value) in later {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Integer(number) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::Boolean(on) => !on,
        Value::Array(items) => items.is_empty(),
        Value::Table(table) => table.is_empty(),
        Value::Datetime(_) => false,
    }
}
