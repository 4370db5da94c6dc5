use super::*;
use corten_types::ErrorKind;

use crate::{Lease, schema, tables::In};

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(schema::VERSION_1).unwrap();
    connection
}

fn lease(id: &str) -> In<Lease> {
    let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
    let created_at = UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
    In { namespace: "default".to_owned(), record: Lease { id: id.to_owned(), labels, created_at } }
}

#[test]
fn a_record_comes_back_as_it_was() {
    let connection = database();
    assert!(insert(&connection, &lease("one")).unwrap());
    assert!(!insert(&connection, &lease("one")).unwrap(), "the key is taken");
    let found: In<Lease> = get(&connection, &["default", "one"]).unwrap().unwrap();
    assert_eq!(found.record, lease("one").record);
    assert!(get::<In<Lease>>(&connection, &["other", "one"]).unwrap().is_none());
}

#[test]
fn a_changed_column_is_noticed() {
    let connection = database();
    insert(&connection, &lease("one")).unwrap();
    execute(&connection, "UPDATE leases SET labels = '{}'", []).unwrap();
    let error = get::<In<Lease>>(&connection, &["default", "one"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
}

#[test]
fn pages_go_on_after_the_last_key_and_stop_at_the_limit() {
    let connection = database();
    for id in ["c", "a", "b", "B", "d"] {
        insert(&connection, &lease(id)).unwrap();
    }
    let page = |after: Option<&str>, limit| -> Vec<String> {
        list(&connection, &["default"], after, limit, |_: &In<Lease>| true)
            .unwrap()
            .into_iter()
            .map(|row| row.record.id)
            .collect()
    };
    assert_eq!(page(None, 3), ["B", "a", "b"]);
    assert_eq!(page(Some("b"), 3), ["c", "d"]);
    assert_eq!(page(Some("d"), 3), [""; 0]);
    assert_eq!(page(None, 0), [""; 0]);
}

#[test]
fn a_map_of_values_survives_and_a_cut_one_is_refused() {
    let map = BTreeMap::from([
        ("x".to_owned(), Any { type_url: "type".to_owned(), value: vec![0, 1, 255].into() }),
        ("y".to_owned(), Any::default()),
    ]);
    let Value::Blob(blob) = any_map(&map) else { unreachable!() };
    assert_eq!(decode_any_map(&blob), Some(map));
    for length in 1..blob.len() {
        let cut = decode_any_map(&blob[..length]);
        assert!(cut.is_none_or(|map| map.len() == 1), "{length}");
    }
}

#[test]
fn times_before_1970_and_far_away_are_kept_or_clamped() {
    let early = UNIX_EPOCH - Duration::from_nanos(5);
    assert_eq!(time_of(nanoseconds(early)), early);
    assert_eq!(nanoseconds(UNIX_EPOCH + Duration::from_secs(u64::MAX >> 2)), i64::MAX);
}
