//! Compiles the wire definitions beside it to Rust, without protoc.

use prost::Message;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo:rerun-if-changed={}", proto.join("minoots").display());
    let descriptors = protox::compile(["minoots/v2/timers.proto", "minoots/timer/v1/timer.proto"], [proto])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // The reflection service answers from this file.
    std::fs::write(out.join("minoots.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
