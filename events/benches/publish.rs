//! Publishing to 1, 16 and 256 subscribers who take what is theirs.

use std::{hint::black_box, sync::Arc};

use corten_events::{Exchange, NoEventFields};
use corten_filter::Filters;
use corten_types::{Any, Namespace};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BURST: u64 = 100;

fn publish(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be started");
    let namespace: Namespace = "default".parse().expect("it is a name");
    let event = Any { type_url: "containerd.events.TaskExit".to_owned(), value: vec![7; 200].into() };
    let mut group = criterion.benchmark_group("publish and receive");
    group.throughput(Throughput::Elements(BURST));
    for subscribers in [1, 16, 256] {
        let exchange = Exchange::new(Arc::new(NoEventFields));
        let filters = || Filters::parse(&["topic~=\"^/tasks/\""]).expect("it is a filter");
        let mut subscriptions: Vec<_> =
            (0..subscribers).map(|_| exchange.subscribe(filters()).expect("there is room")).collect();
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| {
            bencher.iter(|| {
                for _ in 0..BURST {
                    exchange.publish(&namespace, "/tasks/exit", event.clone()).expect("it is a topic");
                }
                runtime.block_on(async {
                    for subscription in &mut subscriptions {
                        for _ in 0..BURST {
                            black_box(subscription.recv().await);
                        }
                    }
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
