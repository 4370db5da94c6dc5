use corten_types::{Descriptor, Labels};

use super::*;
use crate::{Container, Image, Runtime, schema, tables::In};

const KEYS: [&str; 6] = ["plain", "a.b", "quote\"d", "back\\slash", "\u{e9}t\u{e9}", "line\nbreak"];

fn labels() -> Labels {
    KEYS.iter().map(|key| ((*key).to_owned(), format!("value of {key}"))).collect()
}

fn paths() -> Vec<Vec<&'static str>> {
    let mut paths: Vec<Vec<&str>> = [
        "id",
        "name",
        "image",
        "runtime.name",
        "runtime",
        "target.digest",
        "target.mediatype",
        "target",
        "labels",
        "annotations",
        "labels.absent",
        "labels.plai",
        "labels.value",
        "labels.a.b",
        "annotations.a.b",
        "other",
        "",
    ]
    .map(|path| path.split('.').collect())
    .into();
    paths.extend(KEYS.map(|key| vec!["labels", key]));
    paths
}

fn assert_same<T: Searchable, R: Fields>(record: &T, decoded: &R) {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(schema::VERSION_1).unwrap();
    connection.execute_batch(schema::VERSION_3).unwrap();
    row::insert(&connection, record).unwrap();
    row::scan_raw(&connection, &[], None, |raw: &Raw<'_, T>| {
        for path in paths() {
            assert_eq!(Undecoded::<T>::new(raw.columns()).field(&path), decoded.field(&path), "{path:?}");
        }
        Ok(ControlFlow::Break(()))
    })
    .unwrap();
}

#[test]
fn an_undecoded_image_has_the_fields_of_an_image() {
    let digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let mut image = Image::new("localhost/image:1", Descriptor::new("media/type", digest, 1));
    image.labels = labels();
    image.target.annotations = labels();
    assert_same(&In { namespace: "ns".to_owned(), record: image.clone() }, &image);
}

#[test]
fn an_undecoded_container_has_the_fields_of_a_container() {
    let full = Container {
        id: "c".to_owned(),
        image: "localhost/image:1".to_owned(),
        runtime: Runtime { name: "runc".to_owned(), options: None },
        labels: labels(),
        ..Container::default()
    };
    let empty = Container { id: "c".to_owned(), ..Container::default() };
    for container in [full, empty] {
        assert_same(&In { namespace: "ns".to_owned(), record: container.clone() }, &container);
    }
}

#[test]
fn a_list_has_what_matches_from_where_it_begins_to_its_limit() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(schema::VERSION_1).unwrap();
    connection.execute_batch(schema::VERSION_3).unwrap();
    for number in 0..10 {
        let labels = Labels::from([("parity".to_owned(), (number % 2).to_string())]);
        let container = Container { id: format!("c{number}"), labels, ..Container::default() };
        row::insert(&connection, &In { namespace: "ns".to_owned(), record: container }).unwrap();
    }
    let odd = Filters::parse(&["labels.parity==1"]).unwrap();
    let ids = |after, limit| -> Vec<String> {
        let rows: Vec<In<Container>> = list(&connection, &["ns"], after, limit, &odd).unwrap();
        rows.into_iter().map(|row| row.record.id).collect()
    };
    assert_eq!(ids(None, 2), ["c1", "c3"]);
    assert_eq!(ids(Some("c3"), 10), ["c5", "c7", "c9"]);
    assert_eq!(ids(None, 0), [""; 0]);
}

#[test]
fn an_index_that_says_something_else_than_its_row_is_noticed() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(schema::VERSION_1).unwrap();
    connection.execute_batch(schema::VERSION_3).unwrap();
    // What the index says of labels is the snapshotter.
    let container =
        Container { id: "c".to_owned(), snapshotter: r#"{"a":"x"}"#.to_owned(), ..Container::default() };
    row::insert(&connection, &In { namespace: "ns".to_owned(), record: container }).unwrap();
    connection
        .execute_batch(
            "DROP INDEX containers_in_short;
             CREATE INDEX containers_in_short ON containers
                 (namespace, id, image, runtime, snapshotter, labels, snapshot_key);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema
                 SET sql = 'CREATE INDEX containers_in_short ON containers
                     (namespace, id, image, runtime, labels, snapshotter, snapshot_key)'
                 WHERE name = 'containers_in_short';
             PRAGMA writable_schema = RESET;",
        )
        .unwrap();
    let wrong = Filters::parse(&["labels.a==x"]).unwrap();
    let listed: Result<Vec<In<Container>>> = list(&connection, &["ns"], None, 10, &wrong);
    assert_eq!(listed.unwrap_err().kind(), corten_types::ErrorKind::DataLoss);
}
