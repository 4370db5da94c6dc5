//! `containerd.services.events.v1.Events` (§1.4 of the behaviour table).

mod bridge;
mod fields;

use std::{fmt, sync::Arc};

use corten_api::{
    containerd::{
        services::events::v1::{
            ForwardRequest, PublishRequest, SubscribeRequest,
            events_server::{Events, EventsServer},
        },
        types::Envelope as WireEnvelope,
    },
    convert::{any_from_wire, any_to_wire, system_time, timestamp},
};
use corten_events::{Envelope, Exchange};
use corten_filter::Filters;
use corten_types::Result;
use futures::stream;
use tonic::Request;

pub use self::{bridge::EventBridge, fields::ApiEventFields};
use super::{
    answer::{Answer, Messages, required, respond, send_all},
    serve,
};
use crate::request;

/// Where forwarded events go: past whoever must see them first, and then to everybody.
#[derive(Clone)]
pub struct Forwarder {
    exchange: Exchange,
    observer: Arc<dyn Fn(&Envelope) -> bool + Send + Sync>,
}

impl Forwarder {
    /// Straight to `exchange`.
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange, observer: Arc::new(|_| true) }
    }

    /// Shows each event to `observer` first, which may hold it back by saying `false` (a repetition).
    #[must_use]
    pub fn with_observer(mut self, observer: impl Fn(&Envelope) -> bool + Send + Sync + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Takes an event that somebody else put in its envelope; the namespace of the envelope counts (E02).
    pub(crate) fn forward(&self, envelope: Option<WireEnvelope>) -> Result<()> {
        let WireEnvelope { timestamp, namespace, topic, event } = required(envelope, "envelope")?;
        let event = any_from_wire(event.unwrap_or_default());
        let envelope = Envelope::received(system_time(timestamp.as_ref()), &namespace, &topic, event)?;
        if (self.observer)(&envelope) {
            self.exchange.forward(envelope);
        }
        Ok(())
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Forwarder").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

/// Takes events in and hands them to whoever subscribed.
#[derive(Clone, Debug)]
pub struct EventsService {
    forwarder: Forwarder,
}

impl EventsService {
    /// Over the exchange of `forwarder`.
    pub fn new(forwarder: Forwarder) -> Self {
        Self { forwarder }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> EventsServer<Self> {
        serve!(EventsServer, self)
    }
}

#[tonic::async_trait]
impl Events for EventsService {
    async fn publish(&self, request: Request<PublishRequest>) -> Answer<()> {
        respond(async {
            let namespace = request::namespace(request.metadata())?;
            let PublishRequest { topic, event } = request.into_inner();
            let event = any_from_wire(event.unwrap_or_default());
            self.forwarder.exchange.publish(&namespace, &topic, event)?;
            Ok(())
        })
        .await
    }

    async fn forward(&self, request: Request<ForwardRequest>) -> Answer<()> {
        respond(async { self.forwarder.forward(request.into_inner().envelope) }).await
    }

    type SubscribeStream = Messages<WireEnvelope>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        let subscribing = async {
            let filters = Filters::parse(&request.get_ref().filters)?;
            self.forwarder.exchange.subscribe(filters)
        };
        let subscription = respond(subscribing).await?.into_inner();
        send_all(stream::unfold(subscription, |mut subscription| async move {
            let received = subscription.recv().await?;
            Some((received.map(|envelope| to_wire(&envelope)), subscription))
        }))
    }
}

fn to_wire(envelope: &Envelope) -> WireEnvelope {
    WireEnvelope {
        timestamp: Some(timestamp(envelope.timestamp)),
        namespace: envelope.namespace.to_string(),
        topic: envelope.topic.to_string(),
        event: Some(any_to_wire(envelope.event.clone())),
    }
}
