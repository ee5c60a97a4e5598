//! The index on redb, a copy-on-write B-tree.

use crate::engine::{Engine, Result, Tuning, View};
use crate::load::{APPLIED, Batch, SPACES};
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, TableDefinition, TableError};
use std::path::Path;

fn table(space: u8) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(SPACES[usize::from(space)])
}

pub(crate) struct Redb {
    database: Database,
}

impl Redb {
    pub(crate) fn open(directory: &Path, tuning: &Tuning) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let database = Database::builder()
            .set_cache_size((tuning.cache_mb << 20) as usize)
            .create(directory.join("index.redb"))?;
        Ok(Self { database })
    }
}

impl Engine for Redb {
    fn write(&self, batch: &mut Batch, applied: u64, durable: bool) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        // Without it, opening after a crash reads the whole file.
        transaction.set_quick_repair(durable);
        batch.sort();
        for group in batch.changes().chunk_by(|a, b| a.space == b.space) {
            let mut table = transaction.open_table(table(group[0].space))?;
            for change in group {
                match batch.value(change) {
                    Some(value) => drop(table.insert(batch.key(change), value)?),
                    None => drop(table.remove(batch.key(change))?),
                }
            }
        }
        transaction.open_table(table(APPLIED.0))?.insert(APPLIED.1, &applied.to_be_bytes()[..])?;
        Ok(transaction.commit()?)
    }

    fn view(&self) -> Result<Box<dyn View + '_>> {
        Ok(Box::new(RedbView { transaction: self.database.begin_read()? }))
    }
}

struct RedbView {
    transaction: ReadTransaction,
}

impl View for RedbView {
    fn get(&self, space: u8, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let table = match self.transaction.open_table(table(space)) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            other => other?,
        };
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn scan(
        &self,
        space: u8,
        from: &[u8],
        limit: usize,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<usize> {
        let table = self.transaction.open_table(table(space))?;
        let mut count = 0;
        for entry in table.range(from..)?.take(limit) {
            let (key, value) = entry?;
            each(key.value(), value.value());
            count += 1;
        }
        Ok(count)
    }
}
