package dockerapi

import (
	"bufio"
	"encoding/json"
	"net/http"
)

// containerChanges writes the array as the changes come: there may be as many as there are files.
func (a *api) containerChanges(w http.ResponseWriter, r *request) error {
	out := bufio.NewWriterSize(w, copyBuffer)
	separator := "["
	for change, err := range a.backend.Containers.Changes(r.Context(), r.name) {
		if err != nil {
			return err // after the first bytes the answer is cut, and so no array
		}
		b, err := json.Marshal(change)
		if err != nil {
			return err
		}
		if separator == "[" {
			w.Header().Set("Content-Type", "application/json")
		}
		out.WriteString(separator) //nolint:errcheck // a bufio.Writer's error is that of its Flush too
		out.Write(b)               //nolint:errcheck // as above
		separator = ","
	}
	if separator == "[" {
		writeJSON(w, http.StatusOK, []any{})
		return nil
	}
	out.WriteString("]\n") //nolint:errcheck // as above
	return out.Flush()
}
