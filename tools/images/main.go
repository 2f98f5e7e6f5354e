// Command images puts the images of the programs in a folder into an OCI layout: `make images`.
package main

import (
	"fmt"
	"os"

	"github.com/sockerless/sockerless/backends/aca/programs"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "Usage: images LAYOUT PROGRAMS\n\nMakes the images of the programs in folder PROGRAMS and puts them into folder LAYOUT.")
		os.Exit(2)
	}
	if err := programs.WriteLayout(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "images: cannot make the images: %v\n", err)
		os.Exit(1)
	}
}
