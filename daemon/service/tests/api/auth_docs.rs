//! The samples of docs/access.md are true, and so is the sample configuration.

use crate::harness::Running;
use minoots::access::secret::{KeyText, system_random};
use minoots::clock::OsClock;
use minoots::config::access::{AuthMode, ListenerLimits};
use minoots::config::{AccessConfig, Config, Layer};
use minoots::store::MemoryControl;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn every_curl_sample_of_the_access_guide_succeeds() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl here");
        return;
    }
    let key = KeyText::random(&system_random()).unwrap();
    let access = AccessConfig {
        mode: AuthMode::Required,
        bootstrap_key: Some(key.clone()),
        ..AccessConfig::default()
    };
    let service = Running::with_access(access, Arc::new(MemoryControl::default()), OsClock).await;
    let guide = include_str!("../../../../docs/access.md");
    let samples: Vec<_> =
        guide.split("```sh\n").skip(1).filter_map(|block| block.split("\n```").next()).collect();
    assert_eq!(samples.len(), 3);
    let script =
        format!("set -eu\ncurl() {{ command curl --fail-with-body \"$@\"; }}\n{}", samples.join("\n"));
    let script =
        script.replace("URL=http://127.0.0.1:7878", &format!("URL={}\nKEY={}", service.url, key.reveal()));
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains("\"secret\":\"mnt_") && stdout.contains("\"keys\":[{"), "{stdout}");
    service.stop().await;
}

#[test]
fn the_sample_configuration_is_taken_and_shows_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/minoots/access.toml");
    let env = |name: &str| (name == "HOME").then(|| "/home/u".into());
    let config = Config::load(Layer::default(), &env, Some(&path)).unwrap();
    assert_eq!(config.access.listener, ListenerLimits::default());
    assert_eq!((config.access.issuers.len(), config.access.certificates.len()), (1, 1));
}
