// Package azuresim plays the Azure APIs that Sockerless uses, on loopback.
package azuresim
