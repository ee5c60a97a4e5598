//! The routes of the tenant's admin, and of the service's operator.

pub(super) mod keys;
mod tenants;

use super::App;
use axum::Router;

pub(super) fn routes() -> Router<App> {
    keys::routes().merge(tenants::routes())
}
