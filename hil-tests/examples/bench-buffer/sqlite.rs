//! SQLite as a queue: a row for each observation, or a BLOB for each batch; WAL, synchronous FULL; what is delivered is deleted.
//!
//! It gets the record that the buffer writes as bytes, and gives bytes back: nothing is made of them.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::load::Size;
use crate::part::Store;

/// Observations of one transaction, where it is not said otherwise.
const BATCH: u64 = 1000;

/// How observations lie in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// A row for each.
    Rows,
    /// One BLOB for each batch.
    Blobs,
}

/// An open database.
pub(crate) struct Sqlite {
    database: Connection,
    layout: Layout,
    size: Size,
    appended: u64,
}

impl Sqlite {
    /// Opens the database in a folder, or makes it.
    pub(crate) fn open(folder: &Path, size: Size, layout: Layout) -> Result<Self, String> {
        let open = || {
            let database = Connection::open(folder.join("queue.sqlite"))?;
            database.pragma_update(None, "journal_mode", "WAL")?;
            database.pragma_update(None, "synchronous", "FULL")?;
            database.execute_batch(
                "CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, records BLOB NOT NULL)",
            )?;
            Ok(Self { database, layout, size, appended: 0 })
        };
        open().map_err(of)
    }

    /// Appends in one transaction.
    fn commit(&mut self, count: u64) -> Result<(), rusqlite::Error> {
        let numbers = self.appended..self.appended + count;
        self.appended += count;
        let transaction = self.database.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO queue (count, records) VALUES (?1, ?2)")?;
            let mut record = [0; 256];
            let mut batch = Vec::new();
            for number in numbers {
                let bytes = self.size.record(number, &mut record);
                let record = record.get(..bytes).unwrap_or_default();
                match self.layout {
                    Layout::Rows => drop(insert.execute(params![1, record])?),
                    Layout::Blobs => batch.extend_from_slice(record),
                }
            }
            if self.layout == Layout::Blobs {
                insert.execute(params![i64::try_from(count).unwrap_or(i64::MAX), batch])?;
            }
        }
        transaction.commit()
    }

    /// Reads the oldest and deletes them in one transaction; returns how many observations they were.
    fn take(&mut self, count: u64) -> Result<u64, rusqlite::Error> {
        let rows = if self.layout == Layout::Rows { i64::try_from(count).unwrap_or(i64::MAX) } else { 1 };
        let (mut taken, mut last) = (0, 0);
        {
            let mut select =
                self.database.prepare_cached("SELECT id, count, records FROM queue ORDER BY id LIMIT ?1")?;
            let mut rows = select.query([rows])?;
            while let Some(row) = rows.next()? {
                last = row.get::<_, i64>(0)?;
                taken += u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
                std::hint::black_box(row.get::<_, Vec<u8>>(2)?);
            }
        }
        self.database.prepare_cached("DELETE FROM queue WHERE id <= ?1")?.execute([last])?;
        Ok(taken)
    }
}

impl Store for Sqlite {
    fn append(&mut self, count: u64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            self.commit(batch).map_err(of)?;
            left -= batch;
        }
        Ok(())
    }

    fn pass_through(&mut self, count: u64) -> Result<(), String> {
        self.commit(count).map_err(of)?;
        self.drain(count)
    }

    fn drain(&mut self, count: u64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            let taken = self.take(left.min(BATCH)).map_err(of)?;
            if taken == 0 {
                return Err(format!("{left} observations are missing"));
            }
            left = left.saturating_sub(taken);
        }
        Ok(())
    }

    fn first(&mut self) -> Result<(), String> {
        let first = self.database.query_row("SELECT records FROM queue ORDER BY id LIMIT 1", [], |row| row.get(0));
        first.map(|record: Vec<u8>| drop(record)).map_err(of)
    }

    fn close(self: Box<Self>) -> Result<(), String> {
        self.database.close().map_err(|(_, error)| error.to_string())
    }
}

fn of(error: rusqlite::Error) -> String {
    error.to_string()
}
