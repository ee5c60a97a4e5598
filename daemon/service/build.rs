//! Compiles the wire definitions in `proto/` to Rust, without protoc.

use prost::Message;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    let descriptors = protox::compile(["minoots/v2/timers.proto"], [proto])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // The reflection service answers from this file.
    std::fs::write(out.join("minoots_v2.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
