//! Prints the OpenAPI document of the native REST API; `cargo xtask gen` keeps a copy of it.

fn main() {
    println!("{:#}", minoots::api::openapi::document());
}
