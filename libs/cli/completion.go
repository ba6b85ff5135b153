package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"opensandbox/libs/settings"
)

// shells are those that cobra writes scripts for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

// completion is the command that writes a script for a shell. The script asks the program itself, by cobra.ShellCompRequestCmd.
func completion(p Program) Command {
	return Command{
		Name: "completion", Operand: "SHELL", Alone: true, About: "write the script that completes this command line in " + strings.Join(shells, ", "),
		Run: func(_ context.Context, _ settings.Settings, c Call) error {
			root := tree(p, c.Stdout)
			switch c.Operand {
			case "bash":
				return root.GenBashCompletionV2(c.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(c.Stdout)
			case "fish":
				return root.GenFishCompletion(c.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(c.Stdout)
			}
			return misused("completion: expected one of " + strings.Join(shells, ", "))
		},
	}
}

// isCompletion says whether a script of completion is asking.
func isCompletion(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// complete answers a script.
func complete(ctx context.Context, p Program, sys System) int {
	root := tree(p, sys.Stdout)
	root.SetErr(sys.Stderr)
	root.SetArgs(sys.Args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(sys.Stderr, "%s: %v\n", p.Process, err)
		return ExitFailed
	}
	return ExitOK
}

// tree describes the command line to cobra, which completes it and reads nothing else of it.
func tree(p Program, out io.Writer) *cobra.Command {
	nothing := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: string(p.Process), Short: p.About, Run: nothing, SilenceUsage: true, SilenceErrors: true, ValidArgsFunction: cobra.NoFileCompletions}
	root.SetOut(out)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
	root.Flags().String("config", "", "TOML file")
	for _, name := range actions {
		root.Flags().Bool(name, false, actionAbout[name])
	}
	for _, c := range commands(p) {
		sub := &cobra.Command{Use: c.Name, Short: c.About, Run: nothing, ValidArgsFunction: cobra.NoFileCompletions}
		switch c.Operand {
		case "SHELL":
			sub.ValidArgs, sub.ValidArgsFunction = shells, nil
		case "PATH":
			sub.ValidArgsFunction = nil
		}
		if !c.Alone {
			sub.Flags().String("config", "", "TOML file")
		}
		if c.Careful {
			sub.Flags().Bool("yes", false, "do it")
		}
		for _, f := range c.Flags {
			if f.Value == "" {
				sub.Flags().Bool(f.Name, false, "")
				continue
			}
			sub.Flags().String(f.Name, "", "")
			if len(f.Words) > 0 {
				words := slices.Clone(f.Words)
				// It fails only for a flag that does not exist.
				_ = sub.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
			}
		}
		root.AddCommand(sub)
	}
	return root
}

// actionAbout says what the flags in actions do.
var actionAbout = map[string]string{
	"check-config": "say whether the configuration is valid",
	"print-config": "print the configuration that holds",
	"health":       "ask the running process whether it is healthy",
	"version":      "print the version",
}
