# The module's rules hold for these too; its other variables keep their defaults.

variable "location" {
  description = "Azure region, in its short form: westeurope."
  type        = string
}

variable "project_name" {
  description = "Goes into every name: lower-case letters and digits."
  type        = string
}

variable "environment" {
  description = "Goes into every name after the project: dev, staging, prod."
  type        = string
}

variable "name_suffix" {
  description = "Ends the names that must be unique in all of Azure. Not set: five characters that are the subscription's own."
  type        = string
  default     = null
}

variable "backend_principals" {
  description = "Object ids of who may run the backend, beside its own identity."
  type        = set(string)
  default     = []
}

variable "callback_url" {
  description = "Where containers will reach the backend: the http or https URL of the machine that you run it on."
  type        = string
  default     = null
}

variable "deploy_backend" {
  description = "Runs the backend in the environment, as a container app."
  type        = bool
  default     = false
}

variable "backend_image" {
  description = "Image of the backend that deploy_backend runs: sockerless push-images prints it."
  type        = string
  default     = null
}

variable "agent_image" {
  description = "Image that containers take their agent from. Not set: the backend pushes its own."
  type        = string
  default     = null
}
