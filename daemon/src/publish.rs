//! `publish`: hand an event from standard input to a daemon (rows H79 and DM08).

use std::{io::Read, path::Path, time::Duration};

use anyhow::{Context, ensure};
use corten_api::containerd::services::events::v1::{PublishRequest, events_client::EventsClient};
use corten_proxy::Connection;
use prost::Message;

/// How long the daemon may be away.
const PATIENCE: Duration = Duration::from_secs(3);

/// The largest event, in bytes: what ttrpc would carry too.
const EVENT_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// Reads a protobuf `Any` from standard input and publishes it.
///
/// # Errors
/// If the input is no `Any`, the daemon does not answer within three seconds, or it refuses the event.
pub async fn run(address: &Path, namespace: &str, topic: &str) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    std::io::stdin().take(EVENT_LIMIT_BYTES + 1).read_to_end(&mut bytes).context("read the event")?;
    ensure!(bytes.len() as u64 <= EVENT_LIMIT_BYTES, "the event has more than {EVENT_LIMIT_BYTES} bytes");
    let event = prost_types::Any::decode(bytes.as_slice()).context("the input is no protobuf Any")?;
    let channel = Connection::unix_with_patience(address, PATIENCE).channel();
    let mut request = tonic::Request::new(PublishRequest { topic: topic.to_owned(), event: Some(event) });
    let value = namespace.parse().with_context(|| format!("namespace {namespace:?} is no header value"))?;
    request.metadata_mut().insert("containerd-namespace", value);
    EventsClient::new(channel)
        .publish(request)
        .await
        .with_context(|| format!("publish the event to {}", address.display()))?;
    Ok(())
}
