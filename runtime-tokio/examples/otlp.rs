//! Calls that are seen in a trace: spans go to an OpenTelemetry collector over OTLP/HTTP, and the
//! services are told the ids of the very spans that the collector gets.
//!
//! ```text
//! cargo run --example otlp -- http://127.0.0.1:4318 http://10.0.0.1:8080 http://10.0.1.1:8080
//! ```
//!
//! The first address is the collector, the others are endpoints of the service that is called.
//! What is of this library here are two lines: the spans come by themselves through `tracing`, and
//! `trace_source` tells it who knows their ids.
#![allow(clippy::print_stdout)] // a program for the command line

use std::error::Error;

use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use origin_tokio::Client;
use origin_tokio::trace::{SpanId, TraceContext, TraceId};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let collector = args.next().unwrap_or_else(|| "http://127.0.0.1:4318".to_owned());
    let spans = exporting(&collector)?;
    tracing::subscriber::set_global_default(subscriber(&spans))?;
    let endpoints: Vec<String> = args.collect();
    let trace = work(&client(&endpoints)?).await?;
    println!("trace {trace}");
    // What is still to be exported.
    spans.shutdown()?;
    Ok(())
}

/// Exports spans in batches, from a thread of its own.
pub(crate) fn exporting(collector: &str) -> Result<SdkTracerProvider, Box<dyn Error>> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{collector}/v1/traces"))
        .build()?;
    let resource = Resource::builder().with_service_name("shop").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Spans to the exporter, of this library and of the program. A layer for lines would stand beside.
pub(crate) fn subscriber(
    spans: &SdkTracerProvider,
) -> impl tracing::Subscriber + Send + Sync + 'static {
    let filter = tracing_subscriber::filter::Targets::new()
        .with_target("origin", tracing::Level::INFO)
        .with_target("otlp", tracing::Level::INFO);
    let layer = tracing_opentelemetry::layer().with_tracer(spans.tracer("origin"));
    tracing_subscriber::registry().with(filter).with(layer)
}

/// The ids of the current span, as the exporter has them.
pub(crate) fn current() -> Option<TraceContext> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let ids = span.span_context();
    let trace = TraceId::new(ids.trace_id().to_bytes())?;
    Some(TraceContext::new(trace, SpanId::new(ids.span_id().to_bytes())?, ids.is_sampled()))
}

/// A client that asks for them.
pub(crate) fn client(endpoints: &[String]) -> Result<Client, Box<dyn Error>> {
    let builder = Client::builder().trace_source(current);
    let builder = endpoints.iter().fold(builder, |builder, at| builder.endpoint("billing", at));
    Ok(builder.build()?)
}

/// What a program does in a span of its own; yields the id of its trace.
pub(crate) async fn work(client: &Client) -> Result<String, Box<dyn Error>> {
    let span = tracing::info_span!(target: "otlp", "order");
    async {
        let response = client.service("billing")?.get("/invoices/7").send().await?;
        Ok(response.report.ids.trace.map_or(String::new(), |trace| trace.to_string()))
    }
    .instrument(span)
    .await
}
