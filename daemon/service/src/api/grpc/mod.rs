//! The gRPC services: timers, those of the older package, health and reflection.

mod convert;
mod service;
mod v1;

use super::App;
use super::error::{ApiError, INVALID_FIELD};
use axum::Router;
use axum::http::HeaderValue;
use axum::response::Response;
use minoots_proto::v1::horology_kernel_server::HorologyKernelServer;
use prost::Message;
use prost_types::FileDescriptorSet;
use service::Timers;
use std::collections::HashSet;
use std::sync::LazyLock;
use tonic::{Code, Status};
use v2::timer_service_server::TimerServiceServer;

pub use minoots_proto::v2;

/// Whether the request of the method at this path is a stream, which may take as long as its sender likes.
pub(crate) fn takes_a_stream(path: &str) -> bool {
    static METHODS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        // The descriptors come from our own build; without them every request has the time of a single message.
        let set = FileDescriptorSet::decode(minoots_proto::DESCRIPTORS).unwrap_or_default();
        let services = set.file.iter().flat_map(|f| f.service.iter().map(|s| (f.package(), s)));
        let methods = services.flat_map(|(package, s)| s.method.iter().map(move |m| (package, s.name(), m)));
        let streams = methods.filter(|(_, _, m)| m.client_streaming());
        streams.map(|(package, service, m)| format!("/{package}.{service}/{}", m.name())).collect()
    });
    path.starts_with("/grpc.reflection.") || METHODS.contains(path)
}

pub(super) async fn router(app: App) -> Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<TimerServiceServer<Timers>>().await;
    let mut routes = tonic::service::Routes::builder();
    reporter.set_serving::<HorologyKernelServer<v1::Horology>>().await;
    routes
        .add_service(TimerServiceServer::new(Timers::new(app.clone())))
        .add_service(HorologyKernelServer::new(v1::Horology::new(app)))
        .add_service(health);
    // The descriptors come from our own build, so both builders accept them; without them only reflection is missing.
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(minoots_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes.add_service(v1).add_service(v1alpha);
        }
        (Err(e), _) | (_, Err(e)) => tracing::error!("no gRPC reflection: {e}"),
    }
    routes.routes().prepare().into_axum_router()
}

/// tonic tells a request that it cannot read as INTERNAL, which says that the service is at fault. Our own errors carry
/// their code; what carries none is tonic's.
pub(super) fn blame_the_request(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let is_internal = headers.get("grpc-status").is_some_and(|code| code == "13");
    if !is_internal || headers.contains_key("minoots-code") {
        return response;
    }
    let detail = headers.get("grpc-message").and_then(|v| v.to_str().ok()).unwrap_or_default();
    // Both are written for a header already.
    let told = format!("{}:%20{detail}", INVALID_FIELD.code);
    headers.insert("grpc-status", HeaderValue::from_static("3"));
    headers.insert("minoots-code", HeaderValue::from_static(INVALID_FIELD.code));
    if let Ok(told) = HeaderValue::from_str(&told) {
        headers.insert("grpc-message", told);
    }
    response
}

/// The same for a message within a stream.
fn unreadable(status: Status) -> Status {
    if status.code() != Code::Internal {
        return status;
    }
    ApiError::new(&INVALID_FIELD, status.message()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bulk_create_and_reflection_take_their_time() {
        assert!(takes_a_stream("/minoots.v2.TimerService/CreateTimers"));
        assert!(takes_a_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
        for path in
            ["/minoots.v2.TimerService/CreateTimer", "/minoots.v2.TimerService/WatchEvents", "/v1/timers"]
        {
            assert!(!takes_a_stream(path), "{path}");
        }
    }
}
