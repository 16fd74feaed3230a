// Command compose loads a compose file as Docker Compose does, with its schema, interpolation and consistency checks,
// and prints the services it found. It is built by build.sh for the tests and never shipped.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: compose FILE...")
		os.Exit(2)
	}
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithOsEnv, cli.WithProfiles([]string{"*"}))
	if err == nil {
		project, loadErr := options.LoadProject(context.Background())
		if loadErr == nil {
			fmt.Println(strings.Join(project.ServiceNames(), "\n"))
			return
		}
		err = loadErr
	}
	fmt.Fprintln(os.Stderr, "compose:", err)
	os.Exit(1)
}
