//! The load: timers made from a number, and the batch of changes that each of their steps is to the index.

/// The keyspaces, each an ordered map from bytes to bytes.
pub(crate) const SPACES: [&str; 7] =
    ["definition", "state", "due", "label", "state_index", "ledger", "ended"];
pub(crate) const DEFINITION: u8 = 0;
pub(crate) const STATE: u8 = 1;
pub(crate) const DUE: u8 = 2;
pub(crate) const LABEL: u8 = 3;
pub(crate) const STATE_INDEX: u8 = 4;
pub(crate) const LEDGER: u8 = 5;
pub(crate) const ENDED: u8 = 6;

/// In `label`, under a tenant that there is not. A keyspace of its own would hold one key, and yet be flushed and
/// compacted as often as the others; in `definition` it would keep each new table from lying behind the older ones.
pub(crate) const APPLIED: (u8, &[u8]) = (LABEL, b"\xff\xff\xff\xffapplied_sequence");

const START_MS: u64 = 1_790_000_000_000;
const DAY_NS: u64 = 86_400_000_000_000;
const LABELS: u64 = 100;
/// As many ids share a millisecond as a server that takes 200 k creates a second would give it.
const IDS_PER_MS: u64 = 200;

/// One change; key and value are ranges in the bytes of its batch. No value is a removal.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    pub(crate) space: u8,
    key: (u32, u32),
    value: Option<(u32, u32)>,
}

/// All changes that are written at once.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.changes.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, bytes: &[u8]) -> (u32, u32) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        (start, self.bytes.len() as u32)
    }

    fn insert(&mut self, space: u8, key: &[u8], value: &[u8]) {
        let (key, value) = (self.push(key), Some(self.push(value)));
        self.changes.push(Change { space, key, value });
    }

    fn remove(&mut self, space: u8, key: &[u8]) {
        let key = self.push(key);
        self.changes.push(Change { space, key, value: None });
    }

    pub(crate) fn key(&self, change: &Change) -> &[u8] {
        &self.bytes[change.key.0 as usize..change.key.1 as usize]
    }

    pub(crate) fn value(&self, change: &Change) -> Option<&[u8]> {
        change.value.map(|(start, end)| &self.bytes[start as usize..end as usize])
    }

    /// Puts the changes in the order of keyspace and key, which both engines like best.
    pub(crate) fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |c: &Change| &bytes[c.key.0 as usize..c.key.1 as usize];
        self.changes.sort_by(|a, b| a.space.cmp(&b.space).then_with(|| key(a).cmp(key(b))));
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// SplitMix64: numbers that look random, from a number.
pub(crate) fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What of the load may be turned.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) tenants: u64,
    /// No state is written for a timer that only waits: its definition says it all.
    pub(crate) lean: bool,
    /// Definition, state and ledger are keyed by id and tenant, so that creates come in the order of the keys.
    pub(crate) id_first: bool,
}

/// Timer number n; everything about it follows from n.
#[derive(Clone, Copy)]
pub(crate) struct Timer {
    n: u64,
    tenant: u32,
    id: u128,
    due_ns: i64,
    id_first: bool,
}

impl Timer {
    pub(crate) fn new(n: u64, shape: Shape) -> Self {
        let random = mix(n);
        // Like a UUIDv7: milliseconds, then a counter within the millisecond, then random bits.
        let id = u128::from(START_MS + n / IDS_PER_MS) << 80
            | 7 << 76
            | u128::from(n % IDS_PER_MS) << 64
            | 1 << 63
            | u128::from(random >> 1);
        let due_ns = START_MS as i64 * 1_000_000 + (mix(n ^ 0x5555) % DAY_NS) as i64;
        Self { n, tenant: (random % shape.tenants) as u32, id, due_ns, id_first: shape.id_first }
    }

    /// The timer that a key of `due` and its value belong to, as far as the later steps need it.
    pub(crate) fn from_due(key: &[u8], value: &[u8], shape: Shape) -> Self {
        let flipped = u64::from_be_bytes(key[..8].try_into().unwrap());
        let id = u128::from_be_bytes(key[9..].try_into().unwrap());
        Self {
            n: (id as u64) & (u64::MAX >> 1),
            tenant: u32::from_be_bytes(value.try_into().unwrap()),
            id,
            due_ns: (flipped ^ (1 << 63)) as i64,
            id_first: shape.id_first,
        }
    }

    /// The key of `definition` and `state`.
    pub(crate) fn key(&self) -> [u8; 20] {
        let mut key = [0; 20];
        let (tenant, id) = if self.id_first { (16, 0) } else { (0, 4) };
        key[tenant..tenant + 4].copy_from_slice(&self.tenant.to_be_bytes());
        key[id..id + 16].copy_from_slice(&self.id.to_be_bytes());
        key
    }

    pub(crate) fn due_key(&self) -> [u8; 25] {
        let mut key = [0; 25];
        key[..8].copy_from_slice(&(self.due_ns as u64 ^ (1 << 63)).to_be_bytes());
        key[8] = 4;
        key[9..].copy_from_slice(&self.id.to_be_bytes());
        key
    }

    pub(crate) fn label_key(&self) -> Vec<u8> {
        let mut key = self.tenant.to_be_bytes().to_vec();
        key.extend_from_slice(format!("customer\0c{:04}\0", mix(self.n ^ 0xaaaa) % LABELS).as_bytes());
        key.extend_from_slice(&self.id.to_be_bytes());
        key
    }

    fn state_index_key(&self, state: u8) -> [u8; 21] {
        let mut key = [0; 21];
        key[..4].copy_from_slice(&self.tenant.to_be_bytes());
        key[4] = state;
        key[5..].copy_from_slice(&self.id.to_be_bytes());
        key
    }

    /// About 250 bytes: the names of a map are the same in all, a third is not.
    fn definition(&self) -> Vec<u8> {
        let random = mix(self.n ^ 0x77);
        format!(
            "\u{8}name\u{18}invoice reminder {:08}\u{8}schedule\u{1}once\u{9}at_ns{:019}\u{9}action\u{2}webhook\u{2}url\
             https://hooks.example.com/timers/{:016x}\u{7}payload{{\"invoice\":{},\"customer\":\"c{:04}\"}}\
             \u{6}retry\u{3}attempts\u{5}backoff_initial_ms\u{100}labels\u{1}customer\u{5}c{:04}\u{7}misfire\u{4}fire",
            self.n,
            self.due_ns,
            random,
            random % 10_000_000,
            mix(self.n ^ 0xaaaa) % LABELS,
            mix(self.n ^ 0xaaaa) % LABELS,
        )
        .into_bytes()
    }

    /// About 75 bytes.
    fn state(&self, name: &str, at_ns: i64) -> Vec<u8> {
        let mut value = format!("\u{5}state{name}\u{3}due").into_bytes();
        value.extend_from_slice(&self.due_ns.to_be_bytes());
        value.extend_from_slice(b"\x07version\x01\x07attempt\x00\x07updated");
        value.extend_from_slice(&at_ns.to_be_bytes());
        value.extend_from_slice(&mix(self.n ^ at_ns as u64).to_be_bytes());
        value
    }

    pub(crate) fn create(&self, batch: &mut Batch, shape: Shape) {
        batch.insert(DEFINITION, &self.key(), &self.definition());
        if !shape.lean {
            batch.insert(STATE, &self.key(), &self.state("scheduled", self.due_ns));
        }
        batch.insert(DUE, &self.due_key(), &self.tenant.to_be_bytes());
        batch.insert(LABEL, &self.label_key(), &[]);
    }

    pub(crate) fn fire(&self, batch: &mut Batch) {
        batch.insert(STATE, &self.key(), &self.state("firing", self.due_ns + 1));
        batch.remove(DUE, &self.due_key());
        batch.insert(STATE_INDEX, &self.state_index_key(2), &[]);
    }

    pub(crate) fn finish(&self, batch: &mut Batch, ended_ns: i64) {
        batch.insert(STATE, &self.key(), &self.state("completed", ended_ns));
        batch.remove(STATE_INDEX, &self.state_index_key(2));
        let mut ledger = self.key().to_vec();
        ledger.extend_from_slice(&self.due_ns.to_be_bytes());
        batch.insert(LEDGER, &ledger, &self.state("done", ended_ns)[..60]);
        let mut ended = ended_ns.to_be_bytes().to_vec();
        ended.extend_from_slice(&self.id.to_be_bytes());
        batch.insert(ENDED, &ended, &self.tenant.to_be_bytes());
    }
}
