//! Things that others look after (G07, G13, G14, L08, M07).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use corten_filter::Filters;
use corten_metadata::{Collectible, Found, Image, Options, Resources, View};
use corten_types::{Error, ErrorKind, Labels, Result};

use crate::support::{Fixture, any, descriptor, kind, labels, put};

/// Things that are only their numbers, and whether they are whole.
#[derive(Debug, Default)]
struct Things(Mutex<BTreeMap<u64, bool>>);

impl Things {
    fn make(&self, number: u64) {
        self.0.lock().unwrap().insert(number, true);
    }

    fn breaks(&self, number: u64) {
        self.0.lock().unwrap().insert(number, false);
    }

    fn forget(&self, number: u64) {
        self.0.lock().unwrap().remove(&number);
    }

    fn numbers(&self) -> Vec<u64> {
        self.0.lock().unwrap().keys().copied().collect()
    }
}

#[async_trait::async_trait]
impl Collectible for Things {
    async fn found(&self) -> Result<Vec<Found>> {
        let found = |(number, whole): (&u64, &bool)| Found { number: *number, whole: *whole };
        Ok(self.0.lock().unwrap().iter().map(found).collect())
    }

    async fn remove(&self, number: u64) -> Result<()> {
        let removed = self.0.lock().unwrap().remove(&number);
        removed.map(drop).ok_or_else(|| Error::not_found(format!("thing {number}")))
    }
}

struct Subject {
    things: Arc<Things>,
    fixture: Fixture,
}

fn with(things: &Arc<Things>) -> impl FnOnce(&mut Options) {
    let things = Arc::clone(things);
    move |options| drop(options.collectibles.insert("mount".to_owned(), things))
}

impl Subject {
    async fn new() -> Self {
        let things = Arc::new(Things::default());
        let fixture = Fixture::with(with(&things)).await;
        Self { things, fixture }
    }

    async fn reopen(&mut self) {
        self.fixture.reopen(with(&self.things)).await;
    }

    fn of(&self, view: &View) -> Resources {
        view.resources("mount").unwrap()
    }

    /// Makes a thing to its end.
    async fn make(&self, view: &View, name: &str, with: Labels) -> u64 {
        let begun = self.of(view).begin(name, with).await.unwrap();
        self.things.make(begun.number);
        self.of(view).finish(name, begun.number, name.as_bytes().to_vec().into()).await.unwrap();
        begun.number
    }

    async fn names(&self, view: &View) -> Vec<String> {
        let listed = self.of(view).list(&Filters::all(), None, 100).await.unwrap();
        listed.into_iter().map(|info| info.name).collect()
    }
}

#[tokio::test]
async fn a_thing_is_begun_finished_listed_and_removed() {
    let subject = Subject::new().await;
    let view = subject.fixture.view("ns");
    let things = subject.of(&view);
    assert_eq!(kind(view.resources("stream").map(drop)), ErrorKind::InvalidArgument);
    let begun = things.begin("b", labels([("k", "v"), ("empty", "")])).await.unwrap();
    assert_eq!(begun.stale, None);
    assert_eq!(kind(things.get("b").await), ErrorKind::NotFound, "it is not finished");
    assert!(subject.names(&view).await.is_empty());
    things.finish("b", begun.number, "data".into()).await.unwrap();
    let info = things.get("b").await.unwrap();
    assert_eq!(
        (info.number, info.labels, info.data),
        (begun.number, labels([("k", "v")]), Some("data".into()))
    );
    let other = subject.make(&view, "a", Labels::new()).await;
    assert_ne!(other, begun.number);
    assert_eq!(subject.names(&view).await, ["a", "b"]);
    let filters = Filters::parse(&["labels.k==v"]).unwrap();
    assert_eq!(things.list(&filters, None, 10).await.unwrap().len(), 1);
    assert_eq!(things.list(&Filters::all(), Some("a"), 10).await.unwrap()[0].name, "b");
    assert!(subject.names(&subject.fixture.view("other")).await.is_empty(), "namespaces are apart");
    assert_eq!(kind(things.begin("b", Labels::new()).await), ErrorKind::AlreadyExists);
    assert_eq!(things.remove("b").await.unwrap(), begun.number);
    assert_eq!(kind(things.remove("b").await), ErrorKind::NotFound);
    assert_eq!(kind(things.finish("b", begun.number, "x".into()).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_was_begun_and_never_finished_is_begun_anew() {
    let subject = Subject::new().await;
    let view = subject.fixture.view("ns");
    let things = subject.of(&view);
    let first = things.begin("m", Labels::new()).await.unwrap();
    subject.things.make(first.number);
    let second = things.begin("m", Labels::new()).await.unwrap();
    assert_eq!(second.stale, Some(first.number));
    assert_eq!(kind(things.finish("m", first.number, "x".into()).await), ErrorKind::NotFound);
    things.abandon("m", first.number).await.unwrap();
    things.finish("m", second.number, "y".into()).await.unwrap();
    let third = things.begin("n", Labels::new()).await.unwrap();
    subject.things.make(third.number);
    things.abandon("n", third.number).await.unwrap();
    subject.fixture.metadata.collect().await.unwrap();
    assert!(subject.things.numbers().is_empty(), "both leftovers were buried, the finished one was not kept");
}

#[tokio::test]
async fn things_live_by_leases_labels_and_back_references() {
    let subject = Subject::new().await;
    let view = subject.fixture.view("ns");
    for lease in ["lease", "flat"] {
        let with = if lease == "flat" { labels([("containerd.io/gc.flat", "")]) } else { Labels::new() };
        view.leases().create(Some(lease), with).await.unwrap();
        subject.make(&subject.fixture.leased("ns", lease), lease, Labels::new()).await;
    }
    subject.make(&view, "back", labels([("containerd.io/gc.bref.container", "c")])).await;
    subject.make(&view, "named", Labels::new()).await;
    subject.make(&view, "stray", labels([("containerd.io/gc.bref.container", "absent")])).await;
    let blob = put(&view.content(), b"b", labels([("containerd.io/gc.ref.mount.0", "named")])).await.unwrap();
    view.images().create(Image::new("image", descriptor(&blob)), None).await.unwrap();
    let container = corten_metadata::Container {
        id: "c".to_owned(),
        runtime: corten_metadata::Runtime { name: "runc".to_owned(), options: None },
        spec: Some(any("spec")),
        ..Default::default()
    };
    view.containers().create(container).await.unwrap();
    subject.fixture.metadata.collect().await.unwrap();
    assert_eq!(subject.names(&view).await, ["back", "flat", "lease", "named"]);
    assert_eq!(subject.things.numbers().len(), 4);
    assert!(view.leases().list_resources("lease").await.unwrap().is_empty(), "L08: they are not listed");
    view.containers().delete("c").await.unwrap();
    view.images().delete("image", None).await.unwrap();
    view.leases().delete("lease").await.unwrap();
    subject.fixture.metadata.collect().await.unwrap();
    assert_eq!(subject.names(&view).await, ["flat"]);
    view.leases().delete("flat").await.unwrap();
    subject.fixture.metadata.collect().await.unwrap();
    assert!(subject.names(&view).await.is_empty());
    assert!(subject.things.numbers().is_empty());
}

#[tokio::test]
async fn a_lease_that_is_not_there_refuses_and_a_taken_name_is_leased() {
    let subject = Subject::new().await;
    let view = subject.fixture.view("ns");
    let leased = subject.fixture.leased("ns", "lease");
    assert_eq!(kind(subject.of(&leased).begin("m", Labels::new()).await), ErrorKind::NotFound, "X06");
    subject.make(&view, "m", Labels::new()).await;
    view.leases().create(Some("lease"), Labels::new()).await.unwrap();
    assert_eq!(kind(subject.of(&leased).begin("m", Labels::new()).await), ErrorKind::AlreadyExists);
    subject.fixture.metadata.collect().await.unwrap();
    assert_eq!(subject.names(&view).await, ["m"]);
    subject.of(&view).remove("m").await.unwrap();
    subject.make(&view, "m", Labels::new()).await;
    subject.fixture.metadata.collect().await.unwrap();
    assert!(subject.names(&view).await.is_empty(), "the lease does not keep the next one of that name");
}

#[tokio::test]
async fn what_is_being_made_is_never_collected() {
    let subject = Subject::new().await;
    let view = subject.fixture.view("ns");
    let begun = subject.of(&view).begin("m", Labels::new()).await.unwrap();
    subject.things.make(begun.number);
    subject.fixture.metadata.collect().await.unwrap();
    assert_eq!(subject.things.numbers(), [begun.number]);
    subject.of(&view).finish("m", begun.number, "x".into()).await.unwrap();
    subject.fixture.metadata.collect().await.unwrap();
    assert!(subject.things.numbers().is_empty());
}

#[tokio::test]
async fn things_go_with_their_namespace() {
    let subject = Subject::new().await;
    let view = subject.fixture.view("ns");
    subject.make(&view, "m", Labels::new()).await;
    subject.fixture.metadata.namespaces().delete(view.namespace()).await.unwrap();
    assert!(subject.names(&view).await.is_empty());
    subject.fixture.metadata.collect().await.unwrap();
    assert!(subject.things.numbers().is_empty());
}

#[tokio::test]
async fn at_open_only_what_is_whole_and_finished_stays() {
    let mut subject = Subject::new().await;
    let view = subject.fixture.view("ns");
    view.leases().create(Some("l"), Labels::new()).await.unwrap();
    let leased = subject.fixture.leased("ns", "l");
    let mut made = BTreeMap::new();
    for name in ["whole", "broken", "gone"] {
        made.insert(name, subject.make(&leased, name, Labels::new()).await);
    }
    let begun = subject.of(&leased).begin("begun", Labels::new()).await.unwrap();
    subject.things.make(begun.number);
    subject.things.breaks(made["broken"]);
    subject.things.forget(made["gone"]);
    // Debris is believed only from the second start on, when the folders are known to belong to the database.
    subject.reopen().await;
    subject.things.make(5_000_000);
    subject.reopen().await;
    let view = subject.fixture.view("ns");
    assert_eq!(subject.names(&view).await, ["whole"]);
    subject.fixture.metadata.collect().await.unwrap();
    assert_eq!(subject.things.numbers(), [made["whole"]]);
    let next = subject.of(&view).begin("next", Labels::new()).await.unwrap();
    assert!(next.number > 5_000_000, "the number of what was found is not given again");
}
