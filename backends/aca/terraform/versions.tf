terraform {
  required_version = ">= 1.5"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2" # held to the schema of 5.2.0; 4.x has other names for what is used here
    }
  }
}
