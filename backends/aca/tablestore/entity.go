package tablestore

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// The form of a store in a table: PartitionKey is the same for all entities, RowKey is TABLE|KEY, encoded, and the value
// is cut into the binary properties V00, V01...
const (
	partition      = "sockerless"
	separator      = "|"
	afterSeparator = "}" // the character after it
	leaseRow       = "lease"

	chunkSize = 64 << 10 // bytes of a property, Azure's limit
	maxChunks = 15       // an entity has 1 MiB at most, with its names and keys
	maxValue  = maxChunks * chunkSize
	maxRow    = 512 // characters of a RowKey, which has 1 KiB in UTF-16
)

// rowKey is where an item is.
func rowKey(table, key string) string { return encode(table) + separator + encode(key) }

// keyOf is the key of an item of table.
func keyOf(table, row string) (string, error) {
	encoded, ok := strings.CutPrefix(row, rowKey(table, ""))
	var b strings.Builder
	for i := 0; ok && i < len(encoded); i++ {
		if encoded[i] != '=' {
			b.WriteByte(encoded[i])
			continue
		}
		var c []byte
		if i+3 <= len(encoded) {
			c, _ = hex.DecodeString(encoded[i+1 : i+3]) // nothing, if it is none
		}
		ok = len(c) == 1
		b.Write(c)
		i += 2
	}
	if !ok {
		return "", fmt.Errorf("the entity %q is none of this store's", row)
	}
	return b.String(), nil
}

// encode writes what is not sure to be safe in a key and in a URL as =XX.
func encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._:@", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// encodeEntity is an item as the SDK wants it.
func encodeEntity(row string, value []byte) ([]byte, error) {
	if len(row) > maxRow {
		return nil, fmt.Errorf("its key takes %d characters in a table, which has room for %d", len(row), maxRow)
	}
	if len(value) > maxValue {
		return nil, fmt.Errorf("its %d bytes are more than an entity of a table holds, which is %d", len(value), maxValue)
	}
	e := aztables.EDMEntity{Entity: aztables.Entity{PartitionKey: partition, RowKey: row}, Properties: map[string]any{}}
	for i := 0; len(value) > 0; i++ {
		n := min(len(value), chunkSize)
		e.Properties[chunkName(i)] = aztables.EDMBinary(value[:n])
		value = value[n:]
	}
	return json.Marshal(e)
}

// decodeEntity is the value of an item, and the entity that it is in.
func decodeEntity(raw []byte) ([]byte, *aztables.EDMEntity, error) {
	var e aztables.EDMEntity
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, nil, fmt.Errorf("cannot read an entity: %w", err)
	}
	value := []byte{}
	for i := range maxChunks {
		chunk, ok := e.Properties[chunkName(i)].(aztables.EDMBinary)
		if !ok {
			break
		}
		value = append(value, chunk...)
	}
	return value, &e, nil
}

func chunkName(i int) string { return fmt.Sprintf("V%02d", i) }
