//! The master key: it wraps data keys and signing keys, from a file, the environment, or a program that asks a KMS.

use crate::signing::hex;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::io::Write;
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Why something cannot be sealed or unsealed. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no master key.
    #[error(
        "no master key: set secrets.master_key_file in the configuration, or MINOOTS_MASTER_KEY, to 32 bytes in base64"
    )]
    NoMaster,
    /// The master key is not one.
    #[error("the master key is not 32 bytes in base64: make one with `head -c 32 /dev/urandom | base64`")]
    BadMaster,
    /// What is sealed was sealed with another key, for another place, or was altered.
    #[error("it cannot be unsealed: another master key sealed it, or it was altered")]
    Unsealable,
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
    /// The program that wraps keys failed.
    #[error("the program of secrets.master_key_command failed: {0}")]
    Program(String),
}

/// Wraps and unwraps keys: what a key management service does.
pub trait KeyWrapper: Send + Sync {
    /// The id of the key that it wraps with.
    fn id(&self) -> &str;
    /// Wraps a key. `context` must be given again to unwrap it.
    fn wrap(&self, key: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError>;
    /// Unwraps a key.
    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError>;
}

/// Seals with AES-256-GCM under a fresh nonce, which goes before the sealed bytes.
pub(super) fn seal(key: &[u8], plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
    let mut sealed = plain.to_vec();
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::BadMaster)?)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed)
        .map_err(|_| SealError::Unsealable)?;
    Ok([&nonce[..], &sealed].concat())
}

/// Unseals what [`seal`] made.
pub(super) fn unseal(key: &[u8], sealed: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Unsealable)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Unsealable)?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let length = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::BadMaster)?)
        .open_in_place(nonce, Aad::from(aad), &mut bytes)
        .map_err(|_| SealError::Unsealable)?
        .len();
    bytes.truncate(length);
    Ok(bytes)
}

/// A master key in memory.
struct Local {
    id: String,
    key: Zeroizing<[u8; 32]>,
}

impl Local {
    fn new(key: &[u8]) -> Result<Self, SealError> {
        let key: [u8; 32] = key.try_into().map_err(|_| SealError::BadMaster)?;
        // Of a hash with a word of its own, so that the id says nothing that another use of the key would give.
        let id = digest(&SHA256, &[&b"minoots master key id"[..], &key].concat());
        Ok(Self { id: hex(&id.as_ref()[..8]), key: Zeroizing::new(key) })
    }
}

impl KeyWrapper for Local {
    fn id(&self) -> &str {
        &self.id
    }

    fn wrap(&self, key: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
        seal(&*self.key, key, context)
    }

    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        unseal(&*self.key, wrapped, context)
    }
}

/// A program that asks a key management service: it is called with `wrap` or `unwrap`, reads two lines of base64 (the
/// context, the key), and writes one.
struct External {
    id: String,
    command: Vec<String>,
}

impl External {
    fn call(&self, verb: &str, input: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let failed = |e: std::io::Error| SealError::Program(e.to_string());
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| SealError::Program("it has no name".into()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(failed)?;
        let lines = Zeroizing::new(format!("{}\n{}\n", STANDARD.encode(context), STANDARD.encode(input)));
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes()).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        let text = Zeroizing::new(output.stdout);
        if !output.status.success() {
            return Err(SealError::Program(format!("{verb} ended with {}", output.status)));
        }
        let answer = STANDARD
            .decode(text.trim_ascii())
            .map_err(|_| SealError::Program(format!("{verb} did not write one line of base64")))?;
        Ok(Zeroizing::new(answer))
    }
}

impl KeyWrapper for External {
    fn id(&self) -> &str {
        &self.id
    }

    fn wrap(&self, key: &[u8], context: &[u8]) -> Result<Vec<u8>, SealError> {
        self.call("wrap", key, context).map(|bytes| bytes.to_vec())
    }

    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.call("unwrap", wrapped, context)
    }
}

/// The master key in use, and the one before it while a rotation is under way.
pub struct Master {
    current: Box<dyn KeyWrapper>,
    previous: Option<Box<dyn KeyWrapper>>,
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Master").field("id", &self.current.id()).finish_non_exhaustive()
    }
}

impl Master {
    /// Over any key management service.
    pub fn new(current: Box<dyn KeyWrapper>, previous: Option<Box<dyn KeyWrapper>>) -> Self {
        Self { current, previous }
    }

    /// With 32 bytes; `previous` are those before them, to unwrap what they wrapped.
    pub fn local(key: &[u8], previous: Option<&[u8]>) -> Result<Self, SealError> {
        let boxed = |key| Local::new(key).map(|local| Box::new(local) as Box<dyn KeyWrapper>);
        Ok(Self { current: boxed(key)?, previous: previous.map(boxed).transpose()? })
    }

    /// With 32 bytes in base64.
    pub fn from_text(text: &str, previous: Option<&str>) -> Result<Self, SealError> {
        let decode =
            |text: &str| STANDARD.decode(text.trim()).map(Zeroizing::new).map_err(|_| SealError::BadMaster);
        let previous = previous.map(decode).transpose()?;
        Self::local(&decode(text)?, previous.as_deref().map(Vec::as_slice))
    }

    /// With a program.
    pub fn program(command: Vec<String>) -> Self {
        let id = command.join(" ");
        let id = format!("program-{}", hex(&digest(&SHA256, id.as_bytes()).as_ref()[..8]));
        Self { current: Box::new(External { id, command }), previous: None }
    }

    /// The id of the key in use.
    pub fn id(&self) -> &str {
        self.current.id()
    }

    /// Wraps a key: the master key's id and the wrapped bytes as one text.
    pub fn wrap(&self, key: &[u8], context: &[u8]) -> Result<String, SealError> {
        Ok(format!("{}:{}", self.id(), STANDARD.encode(self.current.wrap(key, context)?)))
    }

    /// Unwraps what [`Self::wrap`] made.
    pub fn unwrap(&self, text: &str, context: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (id, wrapped) = text.split_once(':').ok_or(SealError::Unsealable)?;
        let wrapped = STANDARD.decode(wrapped).map_err(|_| SealError::Unsealable)?;
        let wrapper = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|w| w.id() == id)
            .ok_or(SealError::Unsealable)?;
        wrapper.unwrap(&wrapped, context)
    }

    /// Whether the key in use wrapped this.
    pub fn is_current(&self, text: &str) -> bool {
        text.split_once(':').is_some_and(|(id, _)| id == self.id())
    }
}
