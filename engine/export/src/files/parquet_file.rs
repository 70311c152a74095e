//! Parquet.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;

use super::hashed_file::{Failure, HashedFile, Sealed};
use crate::columns::{Column, Common, From, Type};
use crate::rows::Value;

/// What DuckDB has in a row group.
const ROWS_PER_ROW_GROUP: usize = 122_880;
const UTC: &str = "UTC";

fn schema_of(columns: &[Column]) -> SchemaRef {
    let fields = columns.iter().map(|column| {
        let may_lack = column.holds == Type::Text
            && matches!(column.from, From::Payload(_) | From::Event(Common::CommandId));
        Field::new(column.name, type_of(column.holds), may_lack)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn type_of(holds: Type) -> DataType {
    match holds {
        Type::Integer => DataType::Int64,
        Type::Flag => DataType::Boolean,
        Type::Text => DataType::Utf8,
        Type::Bytes => DataType::Binary,
        Type::Time => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        Type::Day => DataType::Date32,
    }
}

/// The values of one column, of which each row has one of the column's type.
fn array_of(holds: Type, index: usize, rows: &[Vec<Value>]) -> ArrayRef {
    let values = rows.iter().filter_map(|row| row.get(index));
    macro_rules! array {
        ($array:ty, $variant:pat => $value:expr) => {
            Arc::new(<$array>::from_iter(values.map(|value| match value {
                $variant => $value,
                _ => None,
            })))
        };
    }
    match holds {
        Type::Integer => array!(Int64Array, Value::Integer(number) => Some(*number)),
        Type::Flag => array!(BooleanArray, Value::Flag(flag) => Some(*flag)),
        Type::Text => array!(StringArray, Value::Text(text) => text.as_deref()),
        Type::Bytes => array!(BinaryArray, Value::Bytes(bytes) => Some(bytes.as_slice())),
        Type::Day => array!(Date32Array, Value::Day(day) => Some(*day)),
        Type::Time => {
            let times = values.map(|value| match value {
                Value::Time(micros) => Some(*micros),
                _ => None,
            });
            Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone(UTC))
        }
    }
}

fn batch_of(
    schema: &SchemaRef,
    columns: &[Column],
    rows: &[Vec<Value>],
) -> Result<RecordBatch, Failure> {
    let arrays = columns.iter().enumerate();
    let arrays = arrays.map(|(index, column)| array_of(column.holds, index, rows)).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
}

pub(super) struct ParquetWriting {
    writer: ArrowWriter<HashedFile>,
    schema: SchemaRef,
}

impl ParquetWriting {
    pub(super) fn new(file: HashedFile, columns: &[Column]) -> Result<Self, Failure> {
        let by_seq = SortingColumn { column_idx: 0, descending: false, nulls_first: false };
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROWS_PER_ROW_GROUP))
            .set_sorting_columns(Some(vec![by_seq]))
            .build();
        let schema = schema_of(columns);
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))?;
        Ok(Self { writer, schema })
    }

    pub(super) fn write(&mut self, columns: &[Column], rows: &[Vec<Value>]) -> Result<(), Failure> {
        Ok(self.writer.write(&batch_of(&self.schema, columns, rows)?)?)
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    pub(super) fn end_row_group(&mut self) -> Result<(), Failure> {
        Ok(self.writer.flush()?)
    }

    pub(super) fn seal(self) -> Result<Sealed, Failure> {
        Ok(self.writer.into_inner()?.seal()?)
    }
}
