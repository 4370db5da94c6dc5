//! Reading filters, and asking ten thousand things whether they match.

use std::{borrow::Cow, hint::black_box};

use corten_filter::{Fields, Filters};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const THINGS: usize = 10_000;

struct Thing {
    name: String,
    group: String,
}

impl Fields for Thing {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["name"] => Some(Cow::Borrowed(&self.name)),
            ["labels", "example.com/group"] => Some(Cow::Borrowed(&self.group)),
            _ => None,
        }
    }
}

fn filters(criterion: &mut Criterion) {
    let texts = [
        ("a label", r#"labels."example.com/group"==g3"#),
        ("a pattern", r#"name~="^localhost/app-[0-9]*7$""#),
        ("both", r#"labels."example.com/group"==g3,name~=app"#),
    ];
    let things: Vec<Thing> = (0..THINGS)
        .map(|number| Thing { name: format!("localhost/app-{number}"), group: format!("g{}", number % 10) })
        .collect();
    let mut reading = criterion.benchmark_group("read a filter");
    for (name, text) in texts {
        reading.bench_function(name, |bencher| bencher.iter(|| Filters::parse(black_box(&[text]))));
    }
    reading.finish();
    let mut matching = criterion.benchmark_group("match 10,000 things");
    matching.throughput(Throughput::Elements(THINGS as u64));
    for (name, text) in texts {
        let filters = Filters::parse(&[text]).expect("it is a filter");
        matching.bench_function(name, |bencher| {
            bencher.iter(|| things.iter().filter(|thing| filters.matches(*thing)).count());
        });
    }
    matching.finish();
}

criterion_group!(benches, filters);
criterion_main!(benches);
