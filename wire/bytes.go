package wire

import "encoding/base64"

// Bytes is a string that need not be UTF-8, such as a path. JSON, which would change it, gets it in base64.
type Bytes string

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) {
	return base64.RawStdEncoding.AppendEncode(nil, []byte(b)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	plain, err := base64.RawStdEncoding.AppendDecode(nil, text)
	*b = Bytes(plain)
	return err
}
