// Minibox is the one program of the minibox image: the applet is chosen by the name it is called by.
package main

import (
	"os"

	"github.com/sockerless/sockerless/azuresim/minibox/applet"
)

func main() { os.Exit(applet.Main(os.Args)) }
