//! The gRPC services: timers, those of the older package, health and reflection.

mod convert;
mod service;
mod v1;

use super::App;
use axum::Router;
use minoots_proto::v1::horology_kernel_server::HorologyKernelServer;
use service::Timers;
use v2::timer_service_server::TimerServiceServer;

pub use minoots_proto::v2;

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
